// VirtualHost: the exchanges and bindings of one virtual host, and the tables that routing looks into.
//
// Exchanges, destinations and bindings are numbered; numbers are used again. All tables hold numbers, names are looked up
// where something comes in from outside.
//
// Invariants: 1. `identities` holds every binding once. 2. A binding stands in its source's `outgoing` and matcher and in
// its destination's `incoming`, in the order of creation. 3. A destination exists as long as a binding leads to it.
// 4. The exchange of a destination, and the source of a binding, exist. 5. Exchange 0 is the default exchange.

import MillraceBase

struct VirtualHost: Sendable {
  struct ExchangeState {
    var exchange: Exchange
    var matcher: ExchangeMatcher
    var outgoing: [Int32] = []
    /// The route that was here last.
    var mark: UInt64 = 0
    /// False where a number is free. Not an optional state: reading one field of an optional copies all of them.
    var isThere = true

    static let free = {
      var state = ExchangeState(exchange: Exchange.predeclared[0], matcher: ExchangeMatcher(Exchange.predeclared[0]))
      state.isThere = false
      return state
    }()
  }

  struct DestinationState {
    var destination: Destination
    /// Number of the exchange, −1 for queues and topics.
    var exchange: Int32
    var incoming: [Int32] = []
    /// The route that was here last.
    var mark: UInt64 = 0
  }

  struct BindingState {
    let binding: Binding
    let source: Int32
    let destination: Int32
    var isDurable: Bool
  }

  private(set) var name: String
  private(set) var exchangeNames = ByteTable()
  var exchanges: [ExchangeState] = []
  private var freeExchanges: [Int32] = []
  private(set) var queueNames = ByteTable()
  private(set) var topicNames = ByteTable()
  private(set) var exchangeDestinations = ByteTable()
  var destinations: [DestinationState] = []
  private var freeDestinations: [Int32] = []
  private var identities = ByteTable()
  private(set) var bindings: [BindingState?] = []
  /// Where each binding leads, beside `bindings`, so that routing touches little memory.
  private(set) var bindingDestinations: [Int32] = []
  private var freeBindings: [Int32] = []
  var scratch = RouteScratch()

  /// What every virtual host begins as; they share its memory until they change.
  private static let prototype = {
    var host = VirtualHost()
    for exchange in Exchange.predeclared { host.declare(exchange) }
    return host
  }()

  private init() { name = "" }

  /// A virtual host with the exchanges that each has.
  init(name: String) {
    self = VirtualHost.prototype
    self.name = name
  }

  // MARK: - Looking up

  func exchange(_ name: String) -> Exchange? {
    let number = exchangeNames.find(name)
    return number < 0 ? nil : exchanges[Int(number)].exchange
  }

  /// The number of a destination that a binding leads to, −1 for others.
  func number(of destination: Destination) -> Int32 {
    switch destination {
    case .queue(let name): queueNames.find(name)
    case .exchange(let name): exchangeDestinations.find(name)
    case .topic(let name): topicNames.find(name)
    }
  }

  /// The number of a binding, −1 when it does not exist.
  func number(of binding: Binding) -> Int32 { binding.identity.withBuffer { identities.find($0) } }

  /// Exchanges in the order of their names' bytes.
  var sortedExchanges: [Exchange] {
    exchanges.filter(\.isThere).map(\.exchange).sorted { precedes($0.name, $1.name) }
  }

  func bindings(numbered numbers: [Int32]) -> [Binding] { numbers.compactMap { bindings[Int($0)]?.binding } }

  // MARK: - Changing

  mutating func declare(_ exchange: Exchange) {
    if exchangeNames.find(exchange.name) >= 0 { return }
    let state = ExchangeState(exchange: exchange, matcher: ExchangeMatcher(exchange))
    let number: Int32
    if let free = freeExchanges.popLast() {
      number = free
      exchanges[Int(free)] = state
    } else {
      number = Int32(exchanges.count)
      exchanges.append(state)
    }
    exchangeNames.set(exchange.name, number)
  }

  mutating func bind(_ binding: Binding, isDurable: Bool) {
    let identity = binding.identity
    let source = exchangeNames.find(binding.source)
    let known = identity.withBuffer { identities.find($0) }
    guard source > 0 else { return }
    guard let destination = known >= 0 ? bindings[Int(known)]?.destination : destinationNumber(for: binding.destination)
    else { return }
    // Never more durable than its ends: a snapshot could not be read again.
    var isDurable = isDurable && exchanges[Int(source)].exchange.isDurable
    let end = destinations[Int(destination)].exchange
    if end >= 0 { isDurable = isDurable && exchanges[Int(end)].exchange.isDurable }
    if known >= 0 {
      // One that was not durable and becomes so: events must find the same as where it was not there.
      if isDurable { bindings[Int(known)]?.isDurable = true }
      return
    }
    let state = BindingState(binding: binding, source: source, destination: destination, isDurable: isDurable)
    let number: Int32
    if let free = freeBindings.popLast() {
      number = free
      bindings[Int(free)] = state
      bindingDestinations[Int(free)] = destination
    } else {
      number = Int32(bindings.count)
      bindings.append(state)
      bindingDestinations.append(destination)
    }
    identity.withBuffer { identities.set($0, number) }
    destinations[Int(destination)].incoming.append(number)
    exchanges[Int(source)].outgoing.append(number)
    exchanges[Int(source)].matcher.insert(number, binding)
  }

  /// The number of a destination, a new one when no binding leads there yet; nil for an exchange that does not exist.
  private mutating func destinationNumber(for destination: Destination) -> Int32? {
    let known = number(of: destination)
    if known >= 0 { return known }
    var exchange: Int32 = -1
    if case .exchange(let name) = destination {
      exchange = exchangeNames.find(name)
      if exchange <= 0 { return nil }
    }
    let state = DestinationState(destination: destination, exchange: exchange)
    let number: Int32
    if let free = freeDestinations.popLast() {
      number = free
      destinations[Int(free)] = state
    } else {
      number = Int32(destinations.count)
      destinations.append(state)
    }
    switch destination {
    case .queue(let name): queueNames.set(name, number)
    case .exchange(let name): exchangeDestinations.set(name, number)
    case .topic(let name): topicNames.set(name, number)
    }
    return number
  }

  mutating func unbind(_ number: Int32) {
    guard number >= 0, let state = bindings[Int(number)] else { return }
    let binding = state.binding
    exchanges[Int(state.source)].matcher.remove(number, binding)
    exchanges[Int(state.source)].outgoing.removeFirst(equalTo: number)
    destinations[Int(state.destination)].incoming.removeFirst(equalTo: number)
    if destinations[Int(state.destination)].incoming.isEmpty {
      switch binding.destination {
      case .queue(let name): queueNames.remove(name)
      case .exchange(let name): exchangeDestinations.remove(name)
      case .topic(let name): topicNames.remove(name)
      }
      destinations[Int(state.destination)] = DestinationState(destination: .queue(""), exchange: -1)
      freeDestinations.append(state.destination)
    }
    binding.identity.withBuffer { identities.remove($0) }
    bindings[Int(number)] = nil
    freeBindings.append(number)
  }

  mutating func unbindAll(to destination: Destination) {
    let number = number(of: destination)
    if number < 0 { return }
    let incoming = destinations[Int(number)].incoming
    for binding in incoming.reversed() { unbind(binding) }
  }

  mutating func delete(_ name: String) {
    let number = exchangeNames.find(name)
    if number < 0 || Exchange.isReserved(name) { return }
    let outgoing = exchanges[Int(number)].outgoing
    // From the end: each is found at once where it is looked for.
    for binding in outgoing.reversed() { unbind(binding) }
    unbindAll(to: .exchange(name))
    exchangeNames.remove(name)
    exchanges[Int(number)] = .free
    freeExchanges.append(number)
  }
}

extension Array where Element == Int32 {
  /// Takes out one element; looks at the last first, because what goes all goes from the end.
  mutating func removeFirst(equalTo element: Int32) {
    if last == element {
      removeLast()
    } else if let at = firstIndex(of: element) {
      remove(at: at)
    }
  }
}
