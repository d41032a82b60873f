// TablesTests: the tables that routing looks into, against dictionaries and a naive matcher.

import MillraceBase
import Testing

@testable import MillraceRouting

private func withBytes<T>(_ text: String, _ body: (UnsafeRawBufferPointer) -> T) -> T { Bytes(text).withBuffer(body) }

private func matches(_ trie: inout TopicTrie, _ key: String) -> [Int32] {
  var found: [Int32] = []
  withBytes(key) { trie.match($0, into: &found) }
  return found
}

@Test("oracle: a byte table holds what a dictionary holds", arguments: [1, 2, 3] as [UInt64])
func oracleByteTable(seed: UInt64) {
  var random = SeededRandom(seed: seed)
  var table = ByteTable()
  var model: [String: Int32] = [:]
  for step in 0..<5000 {
    // Growing first, then mostly shrinking.
    let key =
      String(repeating: "k", count: Int.random(in: 0...3, using: &random))
      + "\(Int.random(in: 0..<400, using: &random))"
    if Int.random(in: 0..<4, using: &random) < (step < 2500 ? 3 : 1) {
      table.set(key, Int32(step))
      model[key] = Int32(step)
    } else {
      table.remove(key)
      model[key] = nil
    }
    #expect(table.count == model.count, "seed \(seed), step \(step)")
    if step % 250 == 0 {
      for number in 0..<400 {
        for prefix in ["", "k", "kk", "kkk"] {
          #expect(table.find("\(prefix)\(number)") == model["\(prefix)\(number)"] ?? -1, "seed \(seed), step \(step)")
        }
      }
    }
  }
  for key in model.keys { table.remove(key) }
  #expect(table.count == 0 && table.find("1") == -1)
}

@Test("a byte table tells names of different bytes apart that are equal as text")
func byteTableComparesBytes() {
  var table = ByteTable()
  table.set("\u{e9}", 1)
  #expect(table.find("\u{e9}") == 1 && table.find("e\u{301}") == -1)
}

@Test("oracle: the trie matches what the definition matches", arguments: 1...8 as ClosedRange<UInt64>)
func oracleTrie(seed: UInt64) {
  var random = SeededRandom(seed: seed)
  func text(_ words: [String]) -> String {
    (0..<Int.random(in: 0...5, using: &random)).map { _ in words.randomElement(using: &random)! }
      .joined(separator: ".")
  }
  var trie = TopicTrie()
  var model: [(pattern: String, binding: Int32)] = []
  for step in 0..<400 {
    if model.count > 0 && Int.random(in: 0..<3, using: &random) == 0 {
      let gone = model.remove(at: Int.random(in: 0..<model.count, using: &random))
      withBytes(gone.pattern) { trie.remove($0, gone.binding) }
    } else {
      let pattern = text(["a", "b", "", "*", "#", "#", "long-word"])
      withBytes(pattern) { trie.insert($0, Int32(step)) }
      model.append((pattern, Int32(step)))
    }
    for _ in 0..<5 {
      let key = text(["a", "b", "", "c", "*", "#", "long-word"])
      let expected = model.filter { naiveMatch($0.pattern, key) }.map(\.binding)
      let found = matches(&trie, key)
      #expect(found.sorted() == expected.sorted(), "seed \(seed), step \(step), key '\(key)'")
    }
  }
  for one in model { withBytes(one.pattern) { trie.remove($0, one.binding) } }
  #expect(trie.nodeCount == 1 && trie.wordCount == 0, "seed \(seed): the trie keeps what nobody needs")
}

@Test(
  "topic patterns at the edges: no words, empty words, # anywhere",
  arguments: [
    ("", "", true), ("#", "", true), ("*", "", false), ("", "a", false), ("*", "a", true), ("*", ".", false),
    ("*.*", ".", true), ("a.", "a", false), ("a.", "a.", true), ("a.*", "a.", true), ("a.#", "a", true),
    ("a.#", "a.", true), ("a..b", "a..b", true), ("a.*.b", "a..b", true), ("a.b", "a..b", false),
    ("a.#.b", "a.b", true), ("a.#.b", "a..b", true), ("a.#.b", "a.x.y.b", true), ("a.#.b", "a.b.x", false),
    ("#.b", "b", true), ("#.b", "a.b.b", true), ("#.#", "", true), ("#.*", "", false), ("#.*", "a", true),
    ("*.#", "a", true), ("*.#.*", "a", false), ("*.#.*", "a.b", true), ("a*", "ab", false), ("a#", "a", false),
    ("*", "*", true), ("a", "*", false), ("#", "#.#", true), ("A", "a", false),
  ])
func topicEdges(pattern: String, key: String, fits: Bool) {
  var trie = TopicTrie()
  withBytes(pattern) { trie.insert($0, 7) }
  #expect(matches(&trie, key) == (fits ? [7] : []))
  #expect(naiveMatch(pattern, key) == fits)
}

@Test("a pattern of many # against a long key takes no more than words times nodes")
func manyHashes() {
  var trie = TopicTrie()
  let pattern = Array(repeating: "#", count: 100).joined(separator: ".a.") + ".b"
  withBytes(pattern) { trie.insert($0, 1) }
  // Trying every division of the words among 100 # would not end in this universe's lifetime.
  #expect(matches(&trie, Array(repeating: "a", count: 1000).joined(separator: ".")) == [])
  #expect(matches(&trie, Array(repeating: "a", count: 1000).joined(separator: ".") + ".b") == [1])
}
