// SocketListener: accepts connections on a reactor.

import CMillraceSystem
import Glibc
import MillraceBase

/// A listening socket.
final class SocketListener: Listener, EventSource {
  let address: SocketAddress
  private let reactor: EpollReactor
  private let accept: (any Connection) -> any ConnectionHandler
  private var descriptor: Int32
  private var token: UInt64 = 0
  private var pause: Timer?

  /// Connections accepted in one turn, so that a storm of them does not starve those that are open.
  private static let acceptsPerTurn = 4
  private static let backlog: Int32 = 1024

  init(
    _ wanted: SocketAddress, on reactor: EpollReactor,
    accept: @escaping (any Connection) -> any ConnectionHandler
  ) throws(IOError) {
    self.reactor = reactor
    self.accept = accept
    var known: Int32 = 0
    if let directory = wanted.directory {
      descriptor = try IOError.check(
        mr_listen_unix(directory, wanted.host, SocketListener.backlog), "listen", wanted.description)
      address = wanted
    } else {
      var native = try wanted.native(for: "listen")
      descriptor = try IOError.check(mr_listen(&native, SocketListener.backlog), "listen", wanted.description)
      known = mr_local_address(descriptor, &native)
      address = SocketAddress(native)
    }
    do throws(IOError) {
      try IOError.check(known, "listen", wanted.description)
      token = try reactor.register(descriptor, UInt32(MR_READABLE), self, address.description)
    } catch {
      mr_close(descriptor)
      descriptor = -1
      throw error
    }
  }

  func close() {
    guard descriptor >= 0 else { return }
    reactor.requireOwner()
    pause?.cancel()
    reactor.unregister(descriptor, token)
    mr_close(descriptor)
    descriptor = -1
  }

  func reactorStops() { close() }

  func ready(_ flags: UInt32) {
    for _ in 0..<SocketListener.acceptsPerTurn {
      guard descriptor >= 0 else { return }
      var peer = mr_address()
      let accepted = mr_accept(descriptor, &peer)
      if accepted >= 0 {
        adopt(accepted, peer)
        continue
      }
      switch -accepted {
      case EAGAIN: return
      // The peer gave up while it waited, or its network reported an error: the next one may be fine.
      case EINTR, ECONNABORTED, EPROTO, ENETDOWN, ENETUNREACH, EHOSTDOWN, EHOSTUNREACH, ENONET, ETIMEDOUT: continue
      default:
        stopForAWhile(-accepted)
        return
      }
    }
  }

  private func adopt(_ accepted: Int32, _ peer: mr_address) {
    var local = mr_address()
    let localAddress = mr_local_address(accepted, &local) == 0 ? SocketAddress(local) : address
    do throws(IOError) {
      let connection = try SocketConnection(
        accepted, remote: SocketAddress(peer), local: localAddress, reactor: reactor)
      connection.handler = accept(connection)
    } catch {
      mr_close(accepted)
      reactor.logger.logRarely(
        .warning, "io", "dropped a new connection", "", ["reason": error.description], now: reactor.now)
    }
  }

  /// Descriptors or memory ran out: the listener stays readable, so accepting again at once would spin.
  private func stopForAWhile(_ error: Int32) {
    reactor.logger.logRarely(
      .warning, "io", "cannot accept connections for now", "",
      ["address": address.description, "reason": IOError.text(error)], key: address.description, now: reactor.now)
    reactor.detach(descriptor)
    pause = reactor.schedule(after: .milliseconds(100)) { [self] in
      pause = nil
      guard descriptor >= 0 else { return }
      let result = reactor.change(descriptor, token, UInt32(MR_READABLE), attached: false)
      if result < 0 { stopForAWhile(-result) }
    }
  }
}
