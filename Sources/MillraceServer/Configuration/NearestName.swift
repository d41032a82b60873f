// NearestName: the known name that somebody very likely meant.

/// Finds names that differ in a letter or two.
enum NearestName {
  /// The known name closest to `name`; nil when none is close. Capitals, `_` and `-` do not count.
  ///
  /// - Complexity: O(names × length²).
  static func of(_ name: String, among names: some Sequence<String>) -> String? {
    guard name.utf8.count <= 128 else { return nil }
    let wanted = plain(name)
    // One letter in four, and never more than three.
    var best = min(4, max(1, wanted.count / 4) + 1)
    var found: String?
    for known in names {
      let candidate = plain(known)
      guard abs(candidate.count - wanted.count) < best else { continue }
      let distance = distance(wanted, candidate)
      if distance < best {
        best = distance
        found = known
      }
    }
    return found
  }

  private static func plain(_ name: String) -> [UInt8] {
    name.lowercased().utf8.map { $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: "-") ? UInt8(ascii: ".") : $0 }
  }

  /// Letters to insert, take out, replace, or swap with their neighbours.
  static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
    guard !left.isEmpty, !right.isEmpty else { return max(left.count, right.count) }
    var rows = [[Int](repeating: 0, count: right.count + 1), Array(0...right.count), Array(0...right.count)]
    for i in 1...left.count {
      rows = [rows[1], rows[2], [i] + [Int](repeating: 0, count: right.count)]
      for j in 1...right.count {
        let isSame = left[i - 1] == right[j - 1]
        var best = min(rows[1][j] + 1, rows[2][j - 1] + 1, rows[1][j - 1] + (isSame ? 0 : 1))
        if i > 1, j > 1, left[i - 1] == right[j - 2], left[i - 2] == right[j - 1] {
          best = min(best, rows[0][j - 2] + 1)
        }
        rows[2][j] = best
      }
    }
    return rows[2][right.count]
  }
}
