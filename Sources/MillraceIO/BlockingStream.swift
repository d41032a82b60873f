// BlockingStream: what a client's connection offers, with and without TLS.

import MillraceBase

/// A connection for programs that do one thing at a time. One thread may use it at once.
public protocol BlockingStream: AnyObject {
  /// The peer.
  var peer: SocketAddress { get }
  /// Sends all pieces in order.
  /// - Throws: `.failed` when the connection is gone or the system took nothing for the time given at the start.
  func send(_ pieces: [Bytes]) throws(IOError)
  /// Waits until there is something to receive, or the peer has closed.
  /// - Returns: false when `timeout` is over before.
  func waitReadable(_ timeout: Duration) throws(IOError) -> Bool
  /// Receives what is there into `buffer`; blocks when nothing is.
  /// - Returns: how many bytes; 0 when the peer has closed.
  func receive(into buffer: UnsafeMutableRawBufferPointer) throws(IOError) -> Int
}
