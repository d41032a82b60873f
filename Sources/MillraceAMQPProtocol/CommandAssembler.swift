// CommandAssembler: puts a channel's frames together to methods and contents.
//
//   method ──(has content)──▶ header ──(size > 0)──▶ body ─┐
//     ▲ └─(has none): out       └─(size 0): out            ├─(all there): out
//     └────────────────────────────────────────────────────┘

import MillraceBase

/// Assembles the frames of one channel. Errors and their codes are RabbitMQ's (rabbit_command_assembler.erl).
///
/// Memory follows what was received: a body is the list of its frames' payloads.
public struct CommandAssembler: Sendable {
  /// What a frame led to.
  public enum Output: Equatable, Sendable {
    /// More frames are needed.
    case incomplete
    /// A method without content.
    case method(AMQPMethod)
    /// A method with its content.
    case content(AMQPMethod, ContentHeader, ContentBody)
  }

  private enum State: Sendable {
    case method
    case header(AMQPMethod)
    case body(AMQPMethod, ContentHeader, ContentBody)
  }

  /// Most bytes that a body may have.
  public var largestBody: UInt64
  private var state = State.method
  /// How much of the content under way is in memory of its own: its method, its header, pieces of its body.
  private var detached = 0

  /// An assembler between two commands.
  /// - Parameter largestBody: most bytes that a body may have.
  public init(largestBody: UInt64) { self.largestBody = largestBody }

  /// Whether a content has begun and is not there as a whole.
  public var isInsideContent: Bool {
    if case .method = state { return false }
    return true
  }

  /// Takes the channel's next frame, not a heartbeat.
  /// - Throws: what ``AMQPMethod/decode(_:)`` and ``ContentHeader/init(decoding:)`` throw; 505 for a frame of another kind
  ///   than must come next; 501 when there is more body than was announced; 406, a soft error, for a body that is larger
  ///   than allowed, as soon as it is announced. After any of them the assembler is between two commands; what else the
  ///   client sends on the channel is to be dropped until it has said `channel.close-ok`.
  public mutating func receive(_ frame: AMQPFrame) throws(AMQPError) -> Output {
    // Moved out and in again: with every copy each slice counts its owner up and down, which costs more than all the rest.
    var current = State.method
    swap(&state, &current)
    switch consume current {
    case .method:
      guard frame.kind == .method else {
        throw AMQPError(.unexpectedFrame, "expected method frame, got non method frame instead")
      }
      let method = try AMQPMethod.decode(frame.payload)
      guard method.id.hasContent else { return .method(consume method) }
      state = .header(consume method)
      detached = 0
      return .incomplete
    case .header(let method):
      return try receiveHeader(frame, of: method)
    case .body(let method, let header, let body):
      return try receiveBody(frame, of: method, header, body)
    }
  }

  private mutating func receiveHeader(_ frame: AMQPFrame, of method: consuming AMQPMethod) throws(AMQPError) -> Output {
    guard frame.kind == .header else {
      throw AMQPError(
        .unexpectedFrame, "expected content header for class 60, got non content header frame instead", method.id)
    }
    let header: ContentHeader
    do throws(AMQPError) {
      header = try ContentHeader(decoding: frame.payload)
    } catch {
      throw AMQPError(error.code, error.reason, method.id)
    }
    guard header.bodySize <= largestBody else {
      throw AMQPError(
        .preconditionFailed, "message size \(header.bodySize) is larger than configured max size \(largestBody)",
        method.id)
    }
    guard header.bodySize > 0 else { return .content(consume method, consume header, ContentBody()) }
    state = .body(consume method, consume header, ContentBody())
    return .incomplete
  }

  private mutating func receiveBody(
    _ frame: AMQPFrame, of method: consuming AMQPMethod, _ header: consuming ContentHeader,
    _ body: consuming ContentBody
  ) throws(AMQPError) -> Output {
    guard frame.kind == .body else {
      throw AMQPError(.unexpectedFrame, "expected content body, got non content body frame instead", method.id)
    }
    guard UInt64(frame.payload.count) <= header.bodySize - UInt64(body.count) else {
      throw AMQPError(.frameError, "content body frame exceeds remaining content size", method.id)
    }
    body.append(frame.payload)
    if UInt64(body.count) == header.bodySize { return .content(consume method, consume header, consume body) }
    state = .body(consume method, consume header, consume body)
    return .incomplete
  }

  /// Puts what is there of an unfinished content into memory of its own, as far as that is small: it would otherwise keep
  /// alive the whole buffer that it was received in. To be called when no more frames are at hand.
  /// - Complexity: O(bytes of small parts that came since the last call).
  public mutating func detach() {
    switch state {
    case .method: break
    case .header(let method):
      guard detached == 0 else { return }
      state = .header(method.detached)
      detached = 1
    case .body(let method, var header, var body):
      if detached < 2 { header.properties = header.properties.detached }
      body.detach(from: max(0, detached - 2))
      state = .body(detached == 0 ? method.detached : method, header, body)
      detached = 2 + body.pieceCount
    }
  }
}
