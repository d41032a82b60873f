// VirtualHost+Removal: which auto-delete exchanges go when bindings go.

import MillraceBase

extension VirtualHost {
  /// What follows a cause, nil when the cause names nothing that is there.
  func removal(of cause: RoutingRemoval.Cause) -> RoutingRemoval? {
    var cascade = Cascade(host: self)
    switch cause {
    case .binding(let binding):
      let number = number(of: binding)
      if number < 0 { return nil }
      cascade.drop(number)
    case .destination(let destination):
      let number = number(of: destination)
      if number < 0 { return nil }
      for binding in destinations[Int(number)].incoming { cascade.drop(binding) }
    case .exchange(let name):
      let number = exchangeNames.find(name)
      if number < 0 || Exchange.isReserved(name) { return nil }
      cascade.delete(number)
    }
    cascade.run()
    return RoutingRemoval(
      cause: cause, autoDeleted: cascade.autoDeleted.map { exchanges[Int($0)].exchange.name })
  }

  /// Whether any of what goes would have survived a restart.
  func isDurable(_ removal: RoutingRemoval) -> Bool {
    func isDurable(_ numbers: [Int32]) -> Bool { numbers.contains { bindings[Int($0)]?.isDurable ?? false } }
    if removal.autoDeleted.contains(where: { exchange($0)?.isDurable ?? false }) { return true }
    switch removal.cause {
    case .binding(let binding): return isDurable([number(of: binding)].filter { $0 >= 0 })
    case .destination(let destination):
      let number = number(of: destination)
      return number >= 0 && isDurable(destinations[Int(number)].incoming)
    case .exchange(let name): return exchange(name)?.isDurable ?? false
    }
  }

  mutating func apply(_ removal: RoutingRemoval) {
    switch removal.cause {
    case .binding(let binding): unbind(number(of: binding))
    case .destination(let destination): unbindAll(to: destination)
    case .exchange(let name): delete(name)
    }
    for name in removal.autoDeleted { delete(name) }
  }
}

/// Follows removals without changing anything: bindings that go, and auto-delete exchanges that have none left.
private struct Cascade {
  let host: VirtualHost
  private(set) var autoDeleted: [Int32] = []
  private var goneBindings: Set<Int32> = []
  private var goneExchanges: Set<Int32> = []
  private var remaining: [Int32: Int] = [:]
  private var pending: [Int32] = []

  init(host: VirtualHost) { self.host = host }

  /// A binding goes; so does its source when it was the last one from an auto-delete exchange.
  mutating func drop(_ number: Int32) {
    guard let binding = host.bindings[Int(number)], goneBindings.insert(number).inserted else { return }
    let source = host.exchanges[Int(binding.source)]
    let left = (remaining[binding.source] ?? source.outgoing.count) - 1
    remaining[binding.source] = left
    if left == 0 && source.exchange.isAutoDelete && goneExchanges.insert(binding.source).inserted {
      autoDeleted.append(binding.source)
      pending.append(binding.source)
    }
  }

  /// An exchange goes, with the bindings from it and to it.
  mutating func delete(_ number: Int32) {
    goneExchanges.insert(number)
    let state = host.exchanges[Int(number)]
    goneBindings.formUnion(state.outgoing)
    let destination = host.number(of: .exchange(state.exchange.name))
    if destination < 0 { return }
    for binding in host.destinations[Int(destination)].incoming { drop(binding) }
  }

  mutating func run() {
    while let exchange = pending.popLast() { delete(exchange) }
  }
}
