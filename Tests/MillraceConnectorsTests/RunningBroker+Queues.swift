// RunningBroker+Queues: message queues of a broker that tests run, filled and emptied without a client.

import MillraceAMQPServer
import MillraceBase
import MillraceBroker
import MillraceDataflow
import MillraceDelivery
import MillraceModel
import MillraceRouting

@testable import MillraceConnectors

extension RunningBroker {
  /// Declares a queue, durable unless told otherwise.
  func declare(_ name: String, isDurable: Bool = true, _ arguments: RoutingTable = .empty) throws {
    let error: RoutingError? = ask { broker, answer in
      broker.queues.register(AMQPMessageFormat.shared)
      let declaration = QueueDeclaration(
        name: name, virtualHost: "/", isDurable: isDurable, arguments: arguments)
      broker.queues.declare(declaration, in: "/", owner: nil) { result in
        if case .failure(let error) = result { answer(error) } else { answer(nil) }
      }
    }
    if let error { throw error }
  }

  func deleteQueue(_ name: String) throws {
    let error: RoutingError? = ask { broker, answer in
      broker.queues.delete(name, in: "/", owner: nil) { result in
        if case .failure(let error) = result { answer(error) } else { answer(nil) }
      }
    }
    if let error { throw error }
  }

  /// Publishes messages by the default exchange, and waits until they are durable.
  func publish(_ bodies: [String], to queue: String) {
    let done: Bool = ask { broker, answer in
      let format = AMQPMessageFormat.shared
      broker.queues.register(format)
      var transaction = QueueTransaction()
      for body in bodies {
        let record = Record(
          value: Bytes(body),
          headers: [
            RecordHeader("amqp.delivery-mode", Bytes("2")), RecordHeader("amqp.priority", Bytes("\(body.prefix(1))")),
          ]
        )
        let properties = format.properties(of: record)
        transaction.publications.append(
          Publication(
            virtualHost: "/", exchange: Bytes(), routingKey: Bytes(queue), format: format, properties: properties,
            body: Bytes(body), facts: format.facts(properties)))
      }
      broker.queues.commit(transaction) { result in
        if case .success = result { answer(true) } else { answer(false) }
      }
    }
    precondition(done, "messages could not be published to \(queue)")
  }

  /// Messages that are ready or in flight.
  func messageCount(_ queue: String) -> Int {
    get { broker in
      do throws(RoutingError) {
        let found = try broker.queues.list(in: "/", after: nil, limit: 100).first { $0.declaration.name == queue }
        return found.map { $0.length + $0.inFlight } ?? -1
      } catch {
        return -1
      }
    }
  }

  /// Takes all messages that are ready, in order, and settles them.
  func takeAll(_ queue: String) -> [Record] {
    var all: [Record] = []
    while let one = take(queue) { all.append(one) }
    return all
  }

  private func take(_ queue: String) -> Record? {
    ask { broker, answer in
      let format = AMQPMessageFormat.shared
      broker.queues.register(format)
      do throws(RoutingError) {
        let consumer = try broker.queues.attach(queue, in: "/", owner: nil, sink: NoSink.shared)
        consumer.get(isNoAck: true) { got in
          consumer.close(isFailure: false)
          answer(
            got.map {
              Record(
                key: Bytes($0.delivery.message.routingKey), value: $0.delivery.message.body,
                headers: format.recordHeaders($0.delivery.message.properties))
            })
        }
      } catch {
        preconditionFailure("\(error)")
      }
    }
  }
}

private final class NoSink: DeliverySink, Sendable {
  static let shared = NoSink()
  func deliver(_ delivery: Delivery, to consumer: QueueConsumer) {}
  func ended(_ consumer: QueueConsumer, _ reason: QueueConsumer.EndReason) {}
}

/// The values of records as text.
func texts(_ records: [Record]) -> [String] { records.map { $0.value?.text ?? "" } }
