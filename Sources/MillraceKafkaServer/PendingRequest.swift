// PendingRequest: one request, from when it was received whole until nobody holds it any more, and then its answer.

import MillraceBase
import MillraceIO

/// A request that was received whole, and its place in the order of answers.
///
/// It counts in the server's budget of requests until it is answered, or until whoever was to answer it has dropped it. So a
/// client that goes away makes no room for others while the broker still holds what it sent. Its answer counts in the budget of
/// answers until that has left.
final class PendingRequest {
  /// Bytes of its frame.
  let size: Int
  /// Its answer, while it waits for those of earlier requests.
  var answer: [Bytes]?
  private let server: KafkaServer
  private var isCounted = true

  /// - Parameter counted: bytes of it that the budget counts already, as input.
  init(_ server: KafkaServer, size: Int, counted: Int) {
    self.server = server
    self.size = size
    server.gate.change(by: size - counted)
  }

  /// Gives its memory back to the budget; once, however often it is called.
  func settle() {
    guard isCounted else { return }
    isCounted = false
    server.gate.change(by: -size)
  }

  deinit {
    guard isCounted else { return }
    let reactor = server.broker.reactor
    if reactor.isCurrent { return server.gate.change(by: -size) }
    // A job in the background was the last one to hold it.
    let bound = ReactorBound(server, on: reactor)
    reactor.submit { [size] in bound.take().gate.change(by: -size) }
  }
}
