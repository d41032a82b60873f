// QueueCarrier: moves messages between queues through the broker's own call, as the library does.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceRouting

/// Moves dead letters back, and messages aside and back again. Lives on the machine: a move ends with it.
final class QueueCarrier {
  private unowned let workload: QueueWorkload
  private var random: SeededRandom
  private var ways: [(from: String, to: String, isRedrive: Bool)] = []
  /// The life of the machine in which a move is under way.
  private var busyMachine = -1

  init(_ workload: QueueWorkload) {
    self.workload = workload
    random = SeededRandom(seed: workload.random.next())
    for family in workload.plan.families {
      if let dead = family.dead, family.isRedriven { ways.append((dead, family.name, true)) }
      if let parked = family.parked {
        ways += [(family.name, parked, false), (parked, family.name, false)]
      }
    }
  }

  /// Perhaps begins a move.
  func turn(_ broker: Broker?) {
    let scenario = workload.scenario
    guard let broker, !ways.isEmpty, busyMachine != scenario.world.machine, random.oneIn(4) else { return }
    let machine = scenario.world.machine
    busyMachine = machine
    let way = ways[Int.random(in: ways.indices, using: &random)]
    broker.queues.move(
      from: way.from, in: "/", owner: nil, limit: Int.random(in: 1...30, using: &random),
      to: { message in
        MoveTarget(
          queue: way.to,
          properties: way.isRedrive ? QueueCarrier.withoutHeaders(message.properties) : message.properties)
      },
      completion: { [weak self] result in
        guard let self else { return }
        if busyMachine == machine { busyMachine = -1 }
        switch result {
        case .success(let count): scenario.count("messages moved by the library's call", count)
        case .failure(let error) where error.code == .resourceError || error.code == .internalError: break
        case .failure(let error):
          scenario.ledger.violate("messages cannot be moved from \(way.from): \(error)", .answers)
        }
      })
  }

  /// A dead letter's properties without its history, as messages of these families have no other headers.
  private static func withoutHeaders(_ properties: Bytes) -> Bytes {
    do throws(DecodingError) {
      var builder = BasicPropertiesBuilder(try BasicProperties(decoding: properties))
      builder.encodedHeaders = nil
      return builder.build().encoded
    } catch {
      return properties
    }
  }
}
