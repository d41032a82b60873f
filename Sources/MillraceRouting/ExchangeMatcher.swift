// ExchangeMatcher: the bindings of one exchange, arranged for how its type matches.

import MillraceBase

struct ExchangeMatcher: Sendable {
  /// What a consistent-hash exchange hashes.
  enum HashInput {
    case routingKey
    case header(String)
    case property(MessageProperty)
  }

  let type: ExchangeType
  let hashInput: HashInput
  var direct: DirectIndex?
  var topic: TopicTrie?
  private(set) var headers: [HeadersRule] = []
  private(set) var weighted: WeightedChoice?
  /// Bindings of modulus-hash and random exchanges, one for each destination, in the order of kind and name.
  private(set) var choices: [(destination: Destination, bindings: [Int32])] = []

  init(_ exchange: Exchange) {
    type = exchange.routingType
    if let header = exchange.arguments["hash-header"]?.text {
      hashInput = .header(header)
    } else if let property = exchange.arguments["hash-property"]?.text.flatMap(MessageProperty.init(rawValue:)) {
      hashInput = .property(property)
    } else {
      hashInput = .routingKey
    }
  }

  mutating func insert(_ number: Int32, _ binding: Binding) {
    switch type {
    case .fanout, .delayed: break
    case .direct:
      if direct == nil { direct = DirectIndex() }
      binding.key.withBuffer { direct?.insert($0, number) }
    case .topic:
      if topic == nil { topic = TopicTrie() }
      binding.key.withBuffer { topic?.insert($0, number) }
    case .headers: headers.append(HeadersRule(binding.arguments, binding: number))
    case .consistentHash:
      if weighted == nil { weighted = WeightedChoice() }
      weighted?.insert(number, identity: binding.identity, key: binding.key)
    case .modulusHash, .random, .localRandom:
      let at = choiceIndex(binding.destination)
      if at < choices.count && !isBefore(binding.destination, choices[at].destination) {
        choices[at].bindings.append(number)
      } else {
        choices.insert((binding.destination, [number]), at: at)
      }
    }
  }

  mutating func remove(_ number: Int32, _ binding: Binding) {
    switch type {
    case .fanout, .delayed: break
    case .direct: binding.key.withBuffer { direct?.remove($0, number) }
    case .topic: binding.key.withBuffer { topic?.remove($0, number) }
    case .headers: headers.removeAll { $0.binding == number }
    case .consistentHash: weighted?.remove(number)
    case .modulusHash, .random, .localRandom:
      let at = choiceIndex(binding.destination)
      guard at < choices.count else { return }
      choices[at].bindings.removeFirst(equalTo: number)
      if choices[at].bindings.isEmpty { choices.remove(at: at) }
    }
  }

  /// The first choice that is not before `destination`.
  private func choiceIndex(_ destination: Destination) -> Int {
    var low = 0
    var high = choices.count
    while low < high {
      let middle = (low + high) / 2
      if isBefore(choices[middle].destination, destination) { low = middle + 1 } else { high = middle }
    }
    return low
  }
}

/// An order of destinations by kind and bytes of the name.
private func isBefore(_ left: Destination, _ right: Destination) -> Bool {
  left.kind == right.kind ? precedes(left.name, right.name) : left.kind < right.kind
}
