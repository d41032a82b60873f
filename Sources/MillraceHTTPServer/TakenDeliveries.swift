// TakenDeliveries: messages that clients have taken from queues and not settled yet, by the token that each was given.
//
// Every request that takes messages is a consumer of its own, until they are all settled or its time is over: what is left then
// goes back to the queue, as it does when an AMQP client is gone. A token is 128 random bits: whoever has it took the message.

import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceIO
import MillraceRouting

/// What is out with clients of one server.
final class TakenDeliveries {
  /// What one request has taken.
  final class Taking: DeliverySink {
    let virtualHost: String
    let queue: String
    fileprivate(set) var consumer: QueueConsumer?
    fileprivate var tokens: Set<String> = []
    fileprivate var timer: Timer?

    init(virtualHost: String, queue: String) {
      self.virtualHost = virtualHost
      self.queue = queue
    }

    func deliver(_ delivery: Delivery, to consumer: QueueConsumer) {}
    func ended(_ consumer: QueueConsumer, _ reason: QueueConsumer.EndReason) {}

    fileprivate func close(isFailure: Bool) {
      timer?.cancel()
      timer = nil
      let closed = consumer
      consumer = nil
      closed?.close(isFailure: isFailure)
    }
  }

  private unowned let server: HTTPServer
  private var byToken: [String: (taking: Taking, position: Position)] = [:]
  private var takings: [ObjectIdentifier: Taking] = [:]
  /// Most messages that may be out at once.
  static let most = 10_000

  init(_ server: HTTPServer) { self.server = server }

  /// Messages that are out.
  var count: Int { byToken.count }

  /// Takes messages until there are `limit`, or they reach `bytes`, or the queue is empty.
  /// - Parameters:
  ///   - time: in which they have to be settled; nil settles them at once: they are gone with the answer.
  ///   - completion: gets them with their tokens, and how many are left in the queue.
  func take(
    _ queue: String, in virtualHost: String, limit: Int, bytes: Int, time: Duration?,
    completion: @escaping (Result<(messages: [(token: String?, delivery: Delivery)], left: Int), HTTPProblem>) -> Void
  ) throws(HTTPProblem) {
    guard time == nil || byToken.count + limit <= TakenDeliveries.most else {
      throw HTTPProblem(
        .tooManyRequests, "too-many-deliveries", "\(byToken.count) messages are out and not settled already")
    }
    let queues: QueueBroker = server.broker.queues
    let taking = Taking(virtualHost: virtualHost, queue: queue)
    do throws(RoutingError) {
      guard queues.has(queue, in: virtualHost) else {
        _ = try queues.inspect(queue, in: virtualHost, owner: nil)
        throw RoutingError(
          .notImplemented, "'\(queue)' in vhost '\(virtualHost)' is a stream, which is read as a topic")
      }
      taking.consumer = try queues.attach(queue, in: virtualHost, owner: nil, sink: taking)
    } catch {
      throw HTTPProblem(error)
    }
    takings[ObjectIdentifier(taking)] = taking
    Take(self, taking, limit: limit, bytes: bytes, isNoAck: time == nil).run { [self] deliveries, left in
      guard let time else {
        let result = deliveries.map { (token: String?.none, delivery: $0) }
        forget(taking, isFailure: false)
        return queues.whenDurable { error in
          completion(error.map { .failure(HTTPProblem($0)) } ?? .success((result, left)))
        }
      }
      var result: [(token: String?, delivery: Delivery)] = []
      for delivery in deliveries {
        let token = TakenDeliveries.token()
        byToken[token] = (taking, delivery.position)
        taking.tokens.insert(token)
        result.append((token, delivery))
      }
      if deliveries.isEmpty {
        forget(taking, isFailure: false)
      } else {
        taking.timer = server.broker.reactor.schedule(after: time) { [self] in forget(taking, isFailure: true) }
      }
      completion(.success((result, left)))
    }
  }

  /// Settles a message; `completion` follows when that is durable.
  /// - Throws: 404 for a token that is not known, or of another queue; 410 when the message is no longer out.
  func settle(
    _ token: String, of queue: String, in virtualHost: String, _ settlement: Settlement,
    completion: @escaping (RoutingError?) -> Void
  ) throws(HTTPProblem) {
    guard let (taking, position) = byToken[token], taking.queue == queue, taking.virtualHost == virtualHost else {
      throw HTTPProblem(
        .notFound, "unknown-delivery",
        "no message is out under this token: it was settled, or its time was over and it went back", at: "path token")
    }
    byToken[token] = nil
    taking.tokens.remove(token)
    let isSettled = taking.consumer?.settle(position, settlement) ?? false
    if taking.tokens.isEmpty { forget(taking, isFailure: false) }
    guard isSettled else {
      throw HTTPProblem(.gone, "delivery-gone", "the message is not in the queue any more", at: "path token")
    }
    server.broker.queues.whenDurable(completion)
  }

  /// Gives everything back, as the server goes.
  func closeAll() {
    for taking in Array(takings.values) { forget(taking, isFailure: false) }
  }

  private func forget(_ taking: Taking, isFailure: Bool) {
    takings[ObjectIdentifier(taking)] = nil
    for token in taking.tokens { byToken[token] = nil }
    taking.tokens = []
    taking.close(isFailure: isFailure)
  }

  private static func token() -> String {
    func hex(_ bits: UInt64) -> String {
      let digits = String(bits, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }
    return hex(.random(in: .min ... .max)) + hex(.random(in: .min ... .max))
  }

  /// One request's way through a queue. Kept alive by what it waits for.
  private final class Take {
    private let all: TakenDeliveries
    private let taking: Taking
    private let limit: Int
    private let most: Int
    private let isNoAck: Bool
    private var deliveries: [Delivery] = []
    private var bytes = 0
    private var left = 0

    init(_ all: TakenDeliveries, _ taking: Taking, limit: Int, bytes: Int, isNoAck: Bool) {
      self.all = all
      self.taking = taking
      self.limit = limit
      most = bytes
      self.isNoAck = isNoAck
    }

    func run(_ completion: @escaping ([Delivery], Int) -> Void) {
      while deliveries.count < limit, bytes < most, let consumer = taking.consumer {
        var isAnswered = false
        var isWaiting = false
        var isEmpty = false
        consumer.get(isNoAck: isNoAck) { [self] got in
          isAnswered = true
          if let got {
            deliveries.append(got.delivery)
            bytes += got.delivery.message.body.count + got.delivery.message.properties.count
            left = got.left
          } else {
            isEmpty = true
          }
          guard isWaiting else { return }
          if isEmpty { completion(deliveries, 0) } else { run(completion) }
        }
        isWaiting = true
        if !isAnswered { return }
        if isEmpty {
          left = 0
          break
        }
      }
      completion(deliveries, left)
    }
  }
}
