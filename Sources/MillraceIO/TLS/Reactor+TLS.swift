// Reactor+TLS: listening with or without TLS, by one call.

import MillraceBase

extension Reactor {
  /// Listens on `address` as ``listen(_:accept:)`` does; with `tls`, connections speak TLS.
  ///
  /// `accept` is called when the connection is accepted, before its handshake, so that limits on connections and on time hold
  /// for the handshake as well. Its handler is offered nothing until the handshake is done; then ``Connection/security`` says
  /// what was agreed on.
  public func listen(
    _ address: SocketAddress, tls: TLSContext?, logger: Logger,
    accept: @escaping (any Connection) -> any ConnectionHandler
  ) throws(IOError) -> any Listener {
    guard let tls else { return try listen(address, accept: accept) }
    return try listen(address) { [unowned self] lower in
      let connection = TLSConnection(over: lower, context: tls, reactor: self, logger: logger)
      connection.handler = accept(connection)
      return connection
    }
  }
}
