// Routing: virtual hosts with their exchanges and bindings, and the way of a message through them.
//
// It belongs to a state machine. Every change is two steps: a function that begins with `check`, or `removal(of:in:)`,
// looks at what a client asks, changes nothing and throws what it is to be told; the function that begins with `apply`
// does it, never fails, and leads to the same state wherever the same changes are applied. What is durable changes only
// by events that the log keeps; what is not is applied without one, is in no snapshot, and is gone after a restart.

import MillraceBase

/// Virtual hosts, exchanges and bindings, with the meaning that AMQP 0-9-1 and RabbitMQ 4 give them.
///
/// A value with one owner: it holds memory that routing uses again, and a copy made while it is in use costs all of it.
public struct Routing: Sendable {
  /// The virtual host that there is from the start.
  public static let defaultVirtualHost = "/"

  private(set) var hostNumbers = ByteTable()
  var hosts: [VirtualHost?] = []
  private var freeHosts: [Int32] = []

  /// The virtual host `/` with the exchanges that each has.
  public init() {
    self.init(hosts: [])
    applyCreate(virtualHost: Routing.defaultVirtualHost)
  }

  /// Only the virtual hosts given.
  init(hosts: [VirtualHost]) {
    for host in hosts { add(host) }
  }

  // MARK: - Virtual hosts

  /// The names of all virtual hosts, in the order of their bytes.
  public var virtualHosts: [String] { hosts.compactMap { $0?.name }.sorted(by: precedes) }

  /// Whether there is a virtual host of this name.
  public func hasVirtualHost(_ name: String) -> Bool { hostNumbers.find(name) >= 0 }

  /// Makes a virtual host with the exchanges that each has; nothing happens when there is one of this name. Durable.
  public mutating func applyCreate(virtualHost name: String) {
    if !hasVirtualHost(name) { add(VirtualHost(name: name)) }
  }

  /// Deletes a virtual host with all that is in it; nothing happens when there is none. Durable.
  public mutating func applyDelete(virtualHost name: String) {
    let number = hostNumbers.find(name)
    if number < 0 { return }
    hostNumbers.remove(name)
    hosts[Int(number)] = nil
    freeHosts.append(number)
  }

  private mutating func add(_ host: VirtualHost) {
    if let free = freeHosts.popLast() {
      hosts[Int(free)] = host
      hostNumbers.set(host.name, free)
    } else {
      hostNumbers.set(host.name, Int32(hosts.count))
      hosts.append(host)
    }
  }

  func host(_ name: String) throws(RoutingError) -> VirtualHost {
    guard let host = find(name) else { throw RoutingError.noVirtualHost(name) }
    return host
  }

  func find(_ name: String) -> VirtualHost? {
    let number = hostNumbers.find(name)
    return number < 0 ? nil : hosts[Int(number)]
  }

  // MARK: - What there is

  /// The exchange of this name.
  public func exchange(_ name: String, in virtualHost: String) -> Exchange? { find(virtualHost)?.exchange(name) }

  /// All exchanges of a virtual host, in the order of their names' bytes; the default exchange comes first.
  public func exchanges(in virtualHost: String) -> [Exchange] { find(virtualHost)?.sortedExchanges ?? [] }

  /// All bindings of a virtual host, by source and then in the order in which they were made. Those of the default
  /// exchange, which every queue has, are not among them.
  public func bindings(in virtualHost: String) -> [Binding] {
    exchanges(in: virtualHost).flatMap { bindings(from: $0.name, in: virtualHost) }
  }

  /// The bindings from an exchange, in the order in which they were made.
  public func bindings(from exchange: String, in virtualHost: String) -> [Binding] {
    guard let host = find(virtualHost) else { return [] }
    let number = host.exchangeNames.find(exchange)
    return number < 0 ? [] : host.bindings(numbered: host.exchanges[Int(number)].outgoing)
  }

  /// The bindings to a queue, exchange or topic, in the order in which they were made.
  public func bindings(to destination: Destination, in virtualHost: String) -> [Binding] {
    guard let host = find(virtualHost) else { return [] }
    let number = host.number(of: destination)
    return number < 0 ? [] : host.bindings(numbered: host.destinations[Int(number)].incoming)
  }

  /// Whether a binding is there.
  public func hasBinding(_ binding: Binding, in virtualHost: String) -> Bool {
    (find(virtualHost)?.number(of: binding) ?? -1) >= 0
  }

  // MARK: - Changes

  /// Makes an exchange that ``checkDeclare(_:in:)`` found to be new; nothing happens when one of this name is there, or
  /// no such virtual host. An event when the exchange is durable.
  public mutating func applyDeclare(_ exchange: Exchange, in virtualHost: String) {
    let number = hostNumbers.find(virtualHost)
    if number >= 0 { hosts[Int(number)]?.declare(exchange.detached()) }
  }

  /// Makes a binding that ``checkBind(_:to:in:)`` found to be new; when it is there it becomes durable at most, and nothing
  /// happens when its source or the exchange it leads to is not. An event when it is durable.
  public mutating func applyBind(_ binding: Binding, isDurable: Bool, in virtualHost: String) {
    let number = hostNumbers.find(virtualHost)
    if number >= 0 { hosts[Int(number)]?.bind(binding.detached(), isDurable: isDurable) }
  }

  /// What goes when a binding, a queue, a topic or an exchange goes, nil when nothing does: unbinding what is not bound,
  /// and deleting what is not there, is no error.
  /// - Complexity: O(bindings that go)
  public func removal(of cause: RoutingRemoval.Cause, in virtualHost: String) -> RoutingRemoval? {
    find(virtualHost)?.removal(of: cause)
  }

  /// Whether a removal has to be an event: any of what goes would survive a restart.
  public func isDurable(_ removal: RoutingRemoval, in virtualHost: String) -> Bool {
    find(virtualHost)?.isDurable(removal) ?? false
  }

  /// Removes; nothing happens to what is not there, or belongs to the broker.
  public mutating func apply(_ removal: RoutingRemoval, in virtualHost: String) {
    let number = hostNumbers.find(virtualHost)
    if number >= 0 { hosts[Int(number)]?.apply(removal) }
  }
}
