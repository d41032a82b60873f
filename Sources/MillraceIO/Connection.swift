// Connection, ConnectionHandler, Listener: stream sockets as the protocol servers see them.

import MillraceBase

/// An IPv4 or IPv6 address and a port, or a socket in a directory.
public struct SocketAddress: Hashable, Sendable, CustomStringConvertible {
  /// The address in its usual notation, without brackets; of a socket in a directory its name.
  public let host: String
  /// The port; 0 asks for any free one.
  public let port: UInt16
  /// Where a socket of the Unix domain stands; nil for an address of the internet's protocols.
  public let directory: String?

  /// An address from its numeric notation. The reactor checks it.
  public init(host: String, port: UInt16) {
    self.host = host
    self.port = port
    directory = nil
  }

  /// The socket `name` of the Unix domain in `directory`, whose path may be of any length.
  public init(directory: String, name: String) {
    host = name
    port = 0
    self.directory = directory
  }

  /// `host:port`, with brackets around IPv6; the path of a socket in a directory.
  public var description: String {
    if let directory { return "\(directory)/\(host)" }
    return host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
  }
}

/// A connected stream socket, owned by one reactor. All members belong to the reactor's thread.
public protocol Connection: AnyObject {
  /// The peer.
  var remoteAddress: SocketAddress { get }
  /// The address the peer connected to.
  var localAddress: SocketAddress { get }
  /// Bytes handed to ``write(_:)`` that the system has not taken yet.
  var pendingWriteBytes: Int { get }
  /// Queues the pieces, in order, and sends what the system takes at once. No-op once closed.
  func write(_ pieces: [Bytes])
  /// Stops or resumes reading: how a handler pushes back on its peer. Input already buffered is offered again on resume.
  func setReading(_ enabled: Bool)
  /// Sends what is queued, then closes. The handler's `connectionClosed` follows.
  func closeAfterWriting()
  /// Drops what is queued and closes. The handler's `connectionClosed` follows, in a later turn.
  func close()
  /// How the connection is protected; nil for plain text, and until a handshake is done, before which nothing is offered to
  /// the handler.
  var security: ConnectionSecurity? { get }
  /// Asks for ``ConnectionHandler/connectionSends()``: once, before the connection next hands output to the system at the end
  /// of a phase of the turn.
  /// - Returns: false when this connection does no such thing.
  func callBeforeSending() -> Bool
}

extension Connection {
  /// None.
  public var security: ConnectionSecurity? { nil }
  /// False.
  public func callBeforeSending() -> Bool { false }
}

/// Handles the input of one connection, on the connection's reactor.
public protocol ConnectionHandler: AnyObject {
  /// Bytes arrived. The handler takes whole messages out of `input` and leaves the rest for the next call.
  func connectionReceived(_ input: inout InputBuffer)
  /// The peer sends no more than what is on its way already, some of which may still be unread. Called once at most, also
  /// while reading is paused, and always before ``connectionInputEnded()``. The peer may be gone, or may only have shut its
  /// sending side: nothing tells the one from the other until something is sent.
  func connectionPeerFinished()
  /// All that the peer has sent was offered, and what the handler has left is no whole message and never will be one.
  /// Called once at most, only while reading.
  /// - Returns: whether the connection may close once what is queued has been sent. A handler that still has answers to give
  ///   returns false and calls ``Connection/closeAfterWriting()`` when it has given them.
  func connectionInputEnded() -> Bool
  /// All queued output was taken by the system after some had to wait.
  func connectionDrained()
  /// Output is about to be handed to the system, and what is written now still goes with it. Only after
  /// ``Connection/callBeforeSending()``.
  func connectionSends()
  /// The connection is gone: by the peer, by an error (then `error` says which) or by `close`. Called once, last.
  func connectionClosed(_ error: IOError?)
}

extension ConnectionHandler {
  /// Nothing: for handlers that wait for nobody on their peer's account.
  public func connectionPeerFinished() {}
  /// True: for handlers that answer at once.
  public func connectionInputEnded() -> Bool { true }
  /// Nothing: for handlers that never ask for it.
  public func connectionSends() {}
}

/// An open listening socket.
public protocol Listener: AnyObject {
  /// The bound address, with the real port.
  var address: SocketAddress { get }
  /// Stops accepting. Connections stay.
  func close()
}
