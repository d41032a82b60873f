// VirtualHost+Route: from an exchange and a message to queues and topics.
//
// Exchanges are visited once for a message, whatever cycles their bindings have. One that matches nothing hands the
// message to its alternate exchange, which may do the same. Source: RabbitMQ, `rabbit_exchange:route1`.

import MillraceBase

/// A message's keys.
struct MessageView {
  let key: Bytes
  let extraKeys: [Bytes]

  /// Hash of all keys.
  var keysHash: UInt64 {
    var hash = key.withBuffer { Hashing.stable($0) }
    for key in extraKeys { hash = Hashing.mix(hash ^ key.withBuffer { Hashing.stable($0) }) }
    return hash
  }
}

extension VirtualHost {
  mutating func route(
    to exchange: Bytes, allowsInternal: Bool, _ message: MessageView, headers: () -> RoutingTable,
    property: (MessageProperty) -> Bytes?,
    random: inout SeededRandom, into result: inout RouteResult
  ) throws(RoutingError) {
    let first = exchange.withBuffer { exchangeNames.find($0) }
    if first < 0 { throw .noExchange(exchange.text, name) }
    if !allowsInternal && exchanges[Int(first)].exchange.isInternal {
      throw RoutingError(.accessRefused, "cannot publish to internal exchange '\(exchange.text)' in vhost '\(name)'")
    }
    scratch.mark += 1
    let mark = scratch.mark
    var fetched: RoutingTable?
    func table() -> RoutingTable {
      if let fetched { return fetched }
      let table = headers()
      fetched = table
      return table
    }
    scratch.work.removeAll(keepingCapacity: true)
    visit(first, isDelayed: false)
    var at = 0
    while at < scratch.work.count {
      let (number, wasDelayed) = scratch.work[at]
      at += 1
      let isDelayed = wasDelayed || exchanges[Int(number)].exchange.isDelayed
      if number == 0 {
        routeByName(message, isDelayed, &result)
        continue
      }
      scratch.matched.removeAll(keepingCapacity: true)
      match(number, message, headers: table, property: property, random: &random)
      if scratch.matched.isEmpty, let alternate = exchanges[Int(number)].exchange.alternate {
        let next = exchangeNames.find(alternate)
        if next >= 0 { visit(next, isDelayed: isDelayed) }
        continue
      }
      for binding in scratch.matched {
        let destination = Int(bindingDestinations[Int(binding)])
        if destinations[destination].mark == mark { continue }
        destinations[destination].mark = mark
        let next = destinations[destination].exchange
        if next >= 0 {
          visit(next, isDelayed: isDelayed)
        } else {
          result.routes.append(.init(destination: destinations[destination].destination, isDelayed: isDelayed))
        }
      }
    }
  }

  /// Puts an exchange on the list of work unless it has been there.
  private mutating func visit(_ exchange: Int32, isDelayed: Bool) {
    if exchanges[Int(exchange)].mark == scratch.mark { return }
    exchanges[Int(exchange)].mark = scratch.mark
    scratch.work.append((exchange, isDelayed))
  }

  /// The default exchange: to the queues that the keys name, whether or not they exist. Its destinations need not be
  /// those of bindings, and then carry no mark; there may be many keys, so they are looked up in a table.
  private mutating func routeByName(_ message: MessageView, _ isDelayed: Bool, _ result: inout RouteResult) {
    add(message.key, isDelayed, &result)
    if message.extraKeys.isEmpty { return }
    var seen = ByteTable()
    message.key.withBuffer { seen.set($0, 0) }
    for key in message.extraKeys where key.withBuffer({ seen.find($0) }) < 0 {
      key.withBuffer { seen.set($0, 0) }
      add(key, isDelayed, &result)
    }
  }

  /// Adds the queue of one name.
  private mutating func add(_ queue: Bytes, _ isDelayed: Bool, _ result: inout RouteResult) {
    let number = Int(queue.withBuffer { queueNames.find($0) })
    if number < 0 {
      result.routes.append(.init(destination: .queue(queue.text), isDelayed: isDelayed))
    } else if destinations[number].mark != scratch.mark {
      destinations[number].mark = scratch.mark
      result.routes.append(.init(destination: destinations[number].destination, isDelayed: isDelayed))
    }
  }

  /// Appends the bindings of one exchange that fit to `scratch.matched`; a binding may come more than once.
  private mutating func match(
    _ number: Int32, _ message: MessageView, headers: () -> RoutingTable, property: (MessageProperty) -> Bytes?,
    random: inout SeededRandom
  ) {
    let at = Int(number)
    switch exchanges[at].matcher.type {
    case .fanout, .delayed: scratch.matched.append(contentsOf: exchanges[at].outgoing)
    case .direct:
      message.key.withBuffer { exchanges[at].matcher.direct?.match($0, into: &scratch.matched) }
      for key in message.extraKeys {
        key.withBuffer { exchanges[at].matcher.direct?.match($0, into: &scratch.matched) }
      }
    case .topic:
      message.key.withBuffer { exchanges[at].matcher.topic?.match($0, into: &scratch.matched) }
      for key in message.extraKeys {
        key.withBuffer { exchanges[at].matcher.topic?.match($0, into: &scratch.matched) }
      }
    case .headers:
      if exchanges[at].matcher.headers.isEmpty { return }
      let table = headers()
      for rule in exchanges[at].matcher.headers where rule.fits(table) { scratch.matched.append(rule.binding) }
    case .consistentHash:
      let hash =
        switch exchanges[at].matcher.hashInput {
        case .routingKey: message.key.withBuffer { Hashing.stable($0) }
        case .header(let name): stableHash(of: headers()[name] ?? .null)
        case .property(let name): (property(name) ?? Bytes()).withBuffer { Hashing.stable($0) }
        }
      if let choice = exchanges[at].matcher.weighted?.choose(hash) { scratch.matched.append(choice) }
    case .modulusHash:
      let count = UInt64(exchanges[at].matcher.choices.count)
      if count == 0 { return }
      scratch.matched.append(exchanges[at].matcher.choices[Int(message.keysHash % count)].bindings[0])
    case .random, .localRandom:
      let count = exchanges[at].matcher.choices.count
      if count == 0 { return }
      scratch.matched.append(exchanges[at].matcher.choices[Int.random(in: 0..<count, using: &random)].bindings[0])
    }
  }
}

/// The same for equal values, in every process.
private func stableHash(of value: RoutingValue) -> UInt64 {
  if case .string(let bytes) = value { return bytes.withBuffer { Hashing.stable($0) } }
  var writer = ByteWriter(capacity: 64)
  writer.value(value)
  return writer.finishJoined().withBuffer { Hashing.stable($0) }
}
