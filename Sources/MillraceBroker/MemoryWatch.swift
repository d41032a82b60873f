// MemoryWatch: whether the process holds more memory than it should, so that producers and publishers have to wait.

import MillraceBase

/// Looks at the memory of the process once a second. Belongs to the reactor.
///
/// What the broker holds of clients' data is bounded part by part (`queued.max.request.bytes`, the hot tail, queues' memory,
/// unsent answers); this is for all else, and for machines that are smaller than the sum of those bounds. Readers go on, because
/// they are what makes room. Source: RabbitMQ, `vm_memory_high_watermark`, which is 0.6 of all there.
public final class MemoryWatch {
  /// Bytes that the process may have; nil as long as nobody watches.
  public private(set) var limit: Int64?
  /// More is held than `memory.high.watermark.percent` allows.
  public private(set) var isLow = false
  /// How often that began since the start.
  public private(set) var timesLow: UInt64 = 0
  /// Called in order whenever ``isLow`` has changed.
  public var onChange: [() -> Void] = []

  private let broker: () -> Broker
  private var resident: () -> Int64 = { 0 }
  private var relieve: () -> Void = {}

  init(broker: @escaping () -> Broker) { self.broker = broker }

  /// Watches from now on, until the broker is closed.
  /// - Parameters:
  ///   - limit: bytes that the process may have.
  ///   - resident: bytes that it has; 0 when that is not known.
  ///   - relieve: gives unused memory back to the system; called once a second while too much is held.
  public func watch(limit: Int64, resident: @escaping () -> Int64, relieve: @escaping () -> Void) {
    precondition(self.limit == nil, "watched already")
    self.limit = limit
    self.resident = resident
    self.relieve = relieve
    look()
  }

  /// Bytes beyond which it is too much; nil without a limit.
  public var highWatermark: Int64? {
    guard let limit, let share = broker().settings.memoryHighWatermark else { return nil }
    return Int64(Double(limit) * share)
  }

  private func look() {
    let broker = broker()
    guard broker.isOpen else { return }
    if isLow { relieve() }
    let held = resident()
    // Lower to end than to begin, so that it does not flutter.
    let isNow = highWatermark.map { held > (isLow ? $0 / 10 * 9 : $0) } ?? false
    if isNow != isLow {
      isLow = isNow
      if isNow { timesLow += 1 }
      broker.logger.log(
        isNow ? .warning : .info, "server",
        isNow ? "memory is short: producers and publishers have to wait" : "memory is there again: producers go on",
        [
          "resident": "\(held)", "high_watermark": highWatermark.map { "\($0)" } ?? "none",
          "setting": "memory.high.watermark.percent",
        ])
      for body in onChange { body() }
    }
    broker.reactor.schedule(after: .seconds(1)) { [weak self] in self?.look() }
  }
}
