// TopicTrie: patterns of a topic exchange as a trie over words, matched against all of a routing key at once.
//
// A key is words between dots: "a..b" has an empty word in the middle, "a." one at the end, and "" has no words at all.
// `*` stands for one word, also an empty one, `#` for any number of words, also none; elsewhere they are ordinary.
// Source: RabbitMQ, `rabbit_db_topic_exchange:split_topic_key`, `trie_match`.
//
// The set of nodes that the words so far lead to is kept and moved on word by word. A node enters a set once, so a match
// costs at most words × nodes, however many `#` a pattern has; trying one way after the other would take exponential time.
//
// Invariants: 1. a node other than the root has bindings or children. 2. A word is interned as long as an edge has it.
// 3. `current` and `next` hold a node at most once.

import Glibc
import MillraceBase

struct TopicTrie {
  private struct Node {
    var parent: Int32 = -1
    /// The word that leads here, or one of the two below.
    var word: Int32 = -1
    var star: Int32 = -1
    var hash: Int32 = -1
    /// Children by ordinary words.
    var wordChildren: Int32 = 0
    var bindings: [Int32] = []

    var isLeaf: Bool { wordChildren == 0 && star < 0 && hash < 0 }
  }

  private static let starWord: Int32 = -2
  private static let hashWord: Int32 = -3
  private static let dot = UInt8(ascii: ".")

  private var nodes: [Node] = [Node()]
  private var freeNodes: [Int32] = []
  private var words = ByteTable()
  private var wordUses: [Int32] = []
  private var freeWords: [Int32] = []
  private var edges = EdgeTable()

  // Of a match; kept so that it allocates nothing.
  private var marks: [UInt64] = [0]
  private var mark: UInt64 = 0
  private var current: [Int32] = []
  private var next: [Int32] = []

  /// Nodes in use, the root included.
  var nodeCount: Int { nodes.count - freeNodes.count }
  /// Words in use.
  var wordCount: Int { words.count }

  /// Calls `body` with each word of `key`.
  @inline(__always)
  private static func forEachWord(_ key: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Bool) {
    guard let base = key.baseAddress, key.count > 0 else { return }
    var start = 0
    while true {
      let end = memchr(base + start, Int32(dot), key.count - start).map { UnsafeRawPointer($0) - base } ?? key.count
      if !body(UnsafeRawBufferPointer(start: base + start, count: end - start)) || end == key.count { return }
      start = end + 1
    }
  }

  private static func wildcard(_ word: UnsafeRawBufferPointer) -> Int32? {
    guard word.count == 1 else { return nil }
    return word[0] == UInt8(ascii: "*") ? starWord : word[0] == UInt8(ascii: "#") ? hashWord : nil
  }

  /// Adds a binding with a pattern.
  mutating func insert(_ pattern: UnsafeRawBufferPointer, _ binding: Int32) {
    var node: Int32 = 0
    TopicTrie.forEachWord(pattern) { word in
      node = child(of: node, by: word)
      return true
    }
    nodes[Int(node)].bindings.append(binding)
  }

  private mutating func child(of parent: Int32, by bytes: UnsafeRawBufferPointer) -> Int32 {
    var word: Int32
    var found: Int32
    if let wildcard = TopicTrie.wildcard(bytes) {
      word = wildcard
      found = wildcard == TopicTrie.starWord ? nodes[Int(parent)].star : nodes[Int(parent)].hash
    } else {
      word = words.find(bytes)
      found = word < 0 ? -1 : edges.find(parent, word)
    }
    if found >= 0 { return found }
    found = newNode()
    if word == TopicTrie.starWord {
      nodes[Int(parent)].star = found
    } else if word == TopicTrie.hashWord {
      nodes[Int(parent)].hash = found
    } else {
      if word < 0 { word = intern(bytes) }
      wordUses[Int(word)] += 1
      nodes[Int(parent)].wordChildren += 1
      edges.add(parent, word, to: found)
    }
    nodes[Int(found)].parent = parent
    nodes[Int(found)].word = word
    return found
  }

  private mutating func newNode() -> Int32 {
    if let free = freeNodes.popLast() { return free }
    nodes.append(Node())
    marks.append(0)
    return Int32(nodes.count - 1)
  }

  private mutating func intern(_ bytes: UnsafeRawBufferPointer) -> Int32 {
    let word: Int32
    if let free = freeWords.popLast() {
      word = free
    } else {
      wordUses.append(0)
      word = Int32(wordUses.count - 1)
    }
    words.set(bytes, word)
    return word
  }

  /// Takes a binding out, and the nodes that only it needed.
  mutating func remove(_ pattern: UnsafeRawBufferPointer, _ binding: Int32) {
    var path: [(node: Int32, bytes: UnsafeRawBufferPointer)] = []
    var node: Int32 = 0
    TopicTrie.forEachWord(pattern) { bytes in
      switch TopicTrie.wildcard(bytes) {
      case TopicTrie.starWord: node = nodes[Int(node)].star
      case TopicTrie.hashWord: node = nodes[Int(node)].hash
      default:
        let word = words.find(bytes)
        node = word < 0 ? -1 : edges.find(node, word)
      }
      path.append((node, bytes))
      return node >= 0
    }
    guard node >= 0, let at = nodes[Int(node)].bindings.firstIndex(of: binding) else { return }
    nodes[Int(node)].bindings.remove(at: at)
    for (node, bytes) in path.reversed() {
      let gone = nodes[Int(node)]
      guard gone.bindings.isEmpty && gone.isLeaf else { return }
      let parent = Int(gone.parent)
      if gone.word == TopicTrie.starWord {
        nodes[parent].star = -1
      } else if gone.word == TopicTrie.hashWord {
        nodes[parent].hash = -1
      } else {
        nodes[parent].wordChildren -= 1
        edges.remove(gone.parent, gone.word)
        wordUses[Int(gone.word)] -= 1
        if wordUses[Int(gone.word)] == 0 {
          words.remove(bytes)
          freeWords.append(gone.word)
        }
      }
      nodes[Int(node)] = Node()
      freeNodes.append(node)
    }
  }

  /// Appends the bindings whose pattern fits `key`; the order depends only on the order of insertions and removals.
  mutating func match(_ key: UnsafeRawBufferPointer, into matched: inout [Int32]) {
    next.removeAll(keepingCapacity: true)
    mark += 1
    enter(0)
    swap(&current, &next)
    TopicTrie.forEachWord(key) { bytes in
      advance(by: words.find(bytes))
      return !current.isEmpty
    }
    for node in current { matched.append(contentsOf: nodes[Int(node)].bindings) }
  }

  private mutating func advance(by word: Int32) {
    next.removeAll(keepingCapacity: true)
    mark += 1
    for node in current {
      let at = Int(node)
      if word >= 0 && nodes[at].wordChildren > 0 {
        let child = edges.find(node, word)
        if child >= 0 { enter(child) }
      }
      if nodes[at].star >= 0 { enter(nodes[at].star) }
      if nodes[at].word == TopicTrie.hashWord { enter(node) }
    }
    swap(&current, &next)
  }

  /// Adds a node to the next set, and those that no word leads to from it.
  private mutating func enter(_ node: Int32) {
    var node = node
    while node >= 0 && marks[Int(node)] != mark {
      marks[Int(node)] = mark
      next.append(node)
      node = nodes[Int(node)].hash
    }
  }
}
