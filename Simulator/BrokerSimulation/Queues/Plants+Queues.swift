// Plants+Queues: what the rules of message queues have to notice.

import MillraceBase

extension Plants {
  static func queuePlants(_ rule: Rule) -> [(inout Sabotage) -> Void] {
    switch rule {
    case .queueMessages:
      [
        { $0.left = inEach { _ = $0.popLast() } },
        { $0.left = inEach { $0.append(LeftMessage(name: MessageName(publisher: 77, number: 7), hops: 0)) } },
        // In the middle of what a session has published.
        { $0.left = inEach { if $0.count > 2 { $0.remove(at: 1) } } },
        // What is written once has the same offsets in all queues.
        { $0.configuration = { $0.leavesBaseOffsets = true } },
      ]
    case .queueSettlements: [{ $0.losesAcknowledgements = true }, { $0.left = addSettled }]
    case .queueOrder:
      [
        { $0.left = inEach { $0.reverse() } },
        { $0.left = inEach { if $0.count > 1 { $0.swapAt(0, $0.count - 1) } } },
      ]
    case .queueDuplicates: [{ $0.left = inEach { $0 += $0.suffix(1) } }, { $0.hidesMessageIDs = true }]
    case .queueTransactions:
      [
        // One message has not moved, and lies where it was.
        { $0.left = { left, _ in moveBack(&left, from: 0) } }, { $0.left = { left, _ in moveBack(&left, from: 1) } },
        { $0.left = { left, _ in _ = left[MoveLedger.queues[0]]?.popLast() } },
        // Half of what was published together is missing.
        { $0.left = loseHalf },
      ]
    case .queueDelays: [{ $0.delay = { _ in 0 } }, { $0.delay = { $0 / 2 } }]
    case .queueDeadLetters:
      [
        { $0.left = inEach { letters in for index in letters.indices { letters[index].deaths = [] } } },
        {
          $0.left = inEach { letters in for index in letters.indices { letters[index].deaths = [("x", "maxlen", 1)] } }
        },
        { $0.left = { left, _ in left["quorum-dead"] = [] } },
      ]
    case .queueDeliveryCounts: [{ $0.deliveryCount = { _ in 0 } }, { $0.deliveryCount = { $0 + 5 } }]
    case .queueGroups:
      [
        { sabotage in
          var number = 0
          sabotage.key = { _ in
            number += 1
            return number
          }
        }
      ]
    case .queueTopology: [{ $0.deletesNothing = true }]
    default: []
    }
  }

  /// Does the same to the contents of each queue.
  private static func inEach(
    _ body: @escaping (inout [LeftMessage]) -> Void
  ) -> (inout [String: [LeftMessage]], QueueLedger) -> Void {
    { left, _ in
      for (place, messages) in left {
        var messages = messages
        body(&messages)
        left[place] = messages
      }
    }
  }

  /// What was acknowledged, and that durably, is there.
  private static func addSettled(_ left: inout [String: [LeftMessage]], _ ledger: QueueLedger) {
    for (copy, state) in ledger.copies where state.settled == .acknowledged {
      left[ledger.families[copy.family].name, default: []].append(LeftMessage(name: copy.name, hops: 0))
    }
  }

  private static func moveBack(_ left: inout [String: [LeftMessage]], from queue: Int) {
    guard var message = left[MoveLedger.queues[queue]]?.last(where: { $0.hops > 0 }) else { return }
    left[MoveLedger.queues[queue]]?.removeAll { $0.name == message.name }
    message.hops -= 1
    left[MoveLedger.queues[1 - queue], default: []].append(message)
  }

  private static func loseHalf(_ left: inout [String: [LeftMessage]], _ ledger: QueueLedger) {
    var seen: Set<Int> = []
    for (place, messages) in left {
      left[place] = messages.filter { message in
        guard let transaction = ledger.publications[message.name]?.transaction else { return true }
        return seen.insert(transaction).inserted
      }
    }
  }
}
