// DescriptorWatch: readiness of any descriptor, reported to a closure on a reactor.

import CMillraceSystem

/// A watched descriptor. Reactor thread only.
public final class DescriptorWatch: EventSource {
  private let descriptor: Int32
  private let reactor: EpollReactor
  private var job: (() -> Void)?
  private var token: UInt64 = 0

  init(descriptor: Int32, reactor: EpollReactor, _ job: @escaping () -> Void) throws(IOError) {
    self.descriptor = descriptor
    self.reactor = reactor
    self.job = job
    token = try reactor.register(descriptor, UInt32(MR_READABLE), self, "descriptor \(descriptor)")
  }

  /// Stops watching. The descriptor stays open. Cancelling twice is harmless.
  public func cancel() {
    guard job != nil else { return }
    reactor.requireOwner()
    job = nil
    reactor.unregister(descriptor, token)
  }

  func ready(_ flags: UInt32) { job?() }
  func reactorStops() { cancel() }
}
