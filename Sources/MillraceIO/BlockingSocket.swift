// BlockingSocket: a client's connection that blocks its caller, with a bound on every wait.

import CMillraceSystem
import Glibc
import MillraceBase

/// A connection by TCP, or to a socket in a directory, for programs that do one thing at a time. One thread may use it at once.
public final class BlockingSocket: BlockingStream {
  private let descriptor: Int32
  /// The peer.
  public let peer: SocketAddress

  /// Connects.
  /// - Parameters:
  ///   - timeout: bound of connecting, and later of each ``send(_:)``.
  /// - Throws: `.failed` when nobody listens, the time is over, or the host is no numeric address.
  public init(connectingTo peer: SocketAddress, timeout: Duration) throws(IOError) {
    self.peer = peer
    if let directory = peer.directory {
      let result = mr_connect_unix_blocking(directory, peer.host, BlockingSocket.milliseconds(timeout))
      descriptor = try IOError.check(result, "connect to", peer.description)
      return
    }
    var native = try peer.native(for: "connect to")
    let result = mr_connect_blocking(&native, BlockingSocket.milliseconds(timeout))
    if result == -EINPROGRESS {
      throw IOError(.failed, operation: "connect to", subject: peer.description, number: ETIMEDOUT, reason: "timed out")
    }
    descriptor = try IOError.check(result, "connect to", peer.description)
  }

  deinit { mr_close(descriptor) }

  private static func milliseconds(_ duration: Duration) -> Int32 {
    Int32(clamping: max(1, duration.inMilliseconds))
  }

  /// Sends all pieces in order.
  /// - Throws: `.failed` when the connection is gone or the system took nothing for the time given at the start.
  public func send(_ pieces: [Bytes]) throws(IOError) {
    var next = 0
    var sent = 0
    while next < pieces.count {
      if sent == pieces[next].count {
        next += 1
        sent = 0
        continue
      }
      // Safety: `pieces` keeps the memory alive until the call has returned.
      var list: [mr_piece] = []
      for index in next..<min(next + 16, pieces.count) {
        let skipped = index == next ? sent : 0
        list.append(mr_piece(base: pieces[index].start + skipped, length: pieces[index].count - skipped))
      }
      let result = list.withUnsafeBufferPointer { mr_send_pieces(descriptor, $0.baseAddress, Int32($0.count)) }
      extendLifetime(pieces)
      if result == Int(-EAGAIN) {
        throw IOError(.failed, operation: "send to", subject: peer.description, number: EAGAIN, reason: "timed out")
      }
      var left = Int(try IOError.check(result, "send to", peer.description))
      while left > 0 {
        let part = min(left, pieces[next].count - sent)
        sent += part
        left -= part
        if sent == pieces[next].count {
          next += 1
          sent = 0
        }
      }
    }
  }

  /// Waits until there is something to receive, or the peer has closed.
  /// - Returns: false when `timeout` is over before.
  public func waitReadable(_ timeout: Duration) throws(IOError) -> Bool {
    let wait = Int32(clamping: max(0, timeout.inMilliseconds))
    return try IOError.check(mr_poll_readable(descriptor, wait), "wait for", peer.description) > 0
  }

  /// Receives what is there into `buffer`; blocks when nothing is.
  /// - Returns: how many bytes; 0 when the peer has closed.
  public func receive(into buffer: UnsafeMutableRawBufferPointer) throws(IOError) -> Int {
    Int(try IOError.check(mr_receive(descriptor, buffer.baseAddress, buffer.count), "receive from", peer.description))
  }
}
