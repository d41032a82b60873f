// PublicationWindowTests: what a channel's client is told of its publications, and when.

import MillraceBase
import Testing

@testable import MillraceAMQPServer

private func answers(_ window: inout PublicationWindow) -> [PublicationWindow.Answer] {
  var out: [PublicationWindow.Answer] = []
  window.takeAnswers { out.append($0) }
  return out
}

private func ack(_ number: UInt64, multiple: Bool = false) -> PublicationWindow.Answer {
  .init(number: number, isMultiple: multiple, isAccepted: true)
}

private func nack(_ number: UInt64, multiple: Bool = false) -> PublicationWindow.Answer {
  .init(number: number, isMultiple: multiple, isAccepted: false)
}

@Test("without confirms nothing is told, and bytes are given back")
func plainWindow() {
  var window = PublicationWindow()
  for size in [10, 20, 30] { _ = window.add(size: size) }
  #expect(window.waiting == 3 && window.bytes == 60)
  #expect(window.settle(2, isAccepted: true) == 20)
  #expect(window.settle(2, isAccepted: false) == 0)
  #expect(window.settle(9, isAccepted: true) == 0)
  #expect(window.settle(1, isAccepted: false) == 10)
  #expect(window.waiting == 1 && window.bytes == 30 && !window.hasAnswers)
  #expect(answers(&window).isEmpty)
}

@Test("runs from the first one on are told with one answer each, what is out of turn by itself")
func runs() {
  var window = PublicationWindow()
  window.confirm()
  for _ in 1...10 { _ = window.add(size: 1) }
  for number: UInt64 in [3, 1, 2] { _ = window.settle(number, isAccepted: true) }
  _ = window.settle(6, isAccepted: true)
  #expect(answers(&window) == [ack(3, multiple: true), ack(6)])
  _ = window.settle(4, isAccepted: false)
  _ = window.settle(5, isAccepted: false)
  _ = window.settle(7, isAccepted: true)
  #expect(answers(&window) == [nack(5, multiple: true), ack(7)])
  _ = window.settle(8, isAccepted: true)
  #expect(answers(&window) == [ack(8)])
  #expect(!window.hasAnswers && answers(&window).isEmpty)
}

@Test("numbers count from the confirms on, and one that was refused at once is given again")
func numbering() {
  var window = PublicationWindow()
  #expect(window.add(size: 5) == 1)
  window.confirm()
  let second = window.add(size: 7)
  #expect(window.withdraw() == 7)
  #expect(window.add(size: 8) == second)
  window.confirm()
  #expect(window.settle(second, isAccepted: true) == 8)
  #expect(answers(&window) == [ack(1)])
  #expect(window.settle(1, isAccepted: true) == 5)
  #expect(answers(&window).isEmpty && window.waiting == 0 && window.bytes == 0)
}

@Test("in any order every publication is told once, with its own outcome")
func oracleRandomOrders() {
  for seed in 1...200 as ClosedRange<UInt64> {
    var random = SeededRandom(seed: seed)
    var window = PublicationWindow()
    for _ in 0..<Int.random(in: 0...3, using: &random) { _ = window.add(size: 1) }
    window.confirm()
    let count = Int.random(in: 1...30, using: &random)
    let numbers = (0..<count).map { _ in window.add(size: 1) }
    let base = numbers[0] - 1
    var outcomes: [UInt64: Bool] = [:]
    var told: [UInt64: Bool] = [:]
    for number in numbers.shuffled(using: &random) {
      let isAccepted = !random.oneIn(4)
      outcomes[number - base] = isAccepted
      _ = window.settle(number, isAccepted: isAccepted)
      guard random.oneIn(3) || outcomes.count == count else { continue }
      window.takeAnswers { answer in
        // A client takes an answer for several as one for all that have had none.
        let first = answer.isMultiple ? 1 : answer.number
        for one in first...answer.number where told[one] == nil { told[one] = answer.isAccepted }
      }
    }
    #expect(told == outcomes, "seed \(seed)")
  }
}
