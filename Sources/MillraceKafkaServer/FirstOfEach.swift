// FirstOfEach: what a request names twice is answered once, so that a small request cannot ask for an answer without limit.

extension Array {
  /// The first element of each key, in order.
  /// - Complexity: O(count).
  func firstOfEach<Key: Hashable>(_ key: (Element) -> Key) -> [Element] {
    var seen: Set<Key> = []
    return filter { seen.insert(key($0)).inserted }
  }
}
