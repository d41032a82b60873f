// What a worker prepares of its own values: when it does, and what arrives.

import MillraceBase
import Testing

@testable import MillraceDataflow

@Suite struct PreparedStatesTests {
  /// The only worker's ends of lanes to itself.
  private let lanes = ExchangeEnd<PreparedState>(LaneMatrix(workers: 1), worker: 0, isHead: true, keep: nil)

  /// Prepares counts of numbered keys.
  /// - Returns: how many values were to go as they are.
  private func count(_ keys: some Sequence<Int>, in states: PreparedStates) -> Int {
    var passed = 0
    for key in keys {
      guard states.preparesNext() else {
        passed += 1
        continue
      }
      Bytes("key \(key)").withBuffer { bytes in states.table.update(bytes, initial: 0) { $0 += 1 } }
    }
    return passed
  }

  @Test("keys that come again are always prepared")
  func repeated() {
    let states = PreparedStates(lanes, codec: nil)
    #expect(count((0..<200_000).lazy.map { $0 % 1000 }, in: states) == 0)
    #expect(states.table.count == 1000)
  }

  @Test("of keys that do not come again one window in sixteen is prepared, until they do")
  func distinct() {
    let states = PreparedStates(lanes, codec: nil)
    let window = 4096
    #expect(count(0..<window * 32, in: states) == window * 30)
    #expect(count(0..<window, in: states) == 0)
    // Half of the window's keys are new: still worth it.
    #expect(count((0..<window).lazy.map { 1_000_000 + $0 / 2 }, in: states) == 0)
    #expect(count(0..<window, in: states) == 0)
  }

  @Test("each key arrives once, with its state; the next step begins with none, and boxes are let go")
  func sending() throws {
    let states = PreparedStates(lanes, codec: Boxed<Int64>.codec)
    let reader = states.end.reader()
    for step in 1...3 {
      weak var box: Boxed<Int64>.Box?
      for key in [7, 8, 7, 7] {
        Bytes("key \(key)").withBuffer { bytes in
          states.table.update(bytes, initial: Boxed<Int64>(100).ownedStateBits()) {
            let state = Boxed<Int64>(stateBits: $0)
            state.content += Int64(step)
            box = state.box
          }
        }
      }
      states.table.note(Timestamp(milliseconds: Int64(step)))
      states.send()
      states.end.markRun()
      var arrived: [String] = []
      reader.begin()
      reader.receiveEnd { part, time in
        let state = Boxed<Int64>(stateBits: part.bits).content
        arrived.append("\(String(decoding: part.key, as: UTF8.self)): \(state) at \(time.milliseconds)")
      }
      #expect(arrived == ["key 7: \(100 + 3 * step) at \(step)", "key 8: \(100 + step) at \(step)"])
      #expect(box != nil)
      states.begin()
      #expect(box == nil)
      #expect(states.table.count == 0 && states.changedSize == 0)
    }
  }

  @Test("only what does not depend on the order of values is prepared")
  func orders() {
    #expect(Counting<Int64>().unorderedMerge != nil)
    #expect(Minimum<Int64> { $0 }.unorderedMerge != nil)
    #expect(Boxing(Averaging<Int64> { $0 }).unorderedMerge != nil)
    #expect(Reducing<Int64> { $0 - $1 }.unorderedMerge == nil)
    #expect(Boxing(Folding<Int64, Int64>(0, adding: { $0 = $1 }, merging: { $0 = $1 })).unorderedMerge == nil)
  }
}
