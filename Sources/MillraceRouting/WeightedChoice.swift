// WeightedChoice: which binding of a consistent-hash exchange a message goes to: weighted rendezvous hashing.
//
// Each binding draws a number from the message's hash and its own identity, and the best draw wins: the largest u of a
// uniform (0, 1), or with weights the largest −w / ln u. The choice depends on the bindings that there are and on nothing
// else: not on the order in which they came, not on the process. A binding gets exactly its weight's share, and when one
// comes or goes only the messages move that it wins or had won. A ring of points shares out less evenly, and needs memory
// by weight, which a client chooses. Source: Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005.

import MillraceBase

struct WeightedChoice {
  private struct Entry {
    let binding: Int32
    let seed: UInt64
    let weight: Double
  }

  private var entries: [Entry] = []
  private var weightsDiffer = false

  /// The weight that a key names: a whole number of at least 1.
  static func weight(_ key: Bytes) throws(RoutingError) -> Double {
    let text = key.text
    var digits = Substring(text)
    let isNegative = digits.hasPrefix("-")
    if isNegative || digits.hasPrefix("+") { digits = digits.dropFirst() }
    guard !digits.isEmpty, digits.utf8.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }) else {
      throw RoutingError(.preconditionFailed, "The binding key must be an integer: <<\"\(text)\">>")
    }
    var weight = 0.0
    for digit in digits.utf8 { weight = weight * 10 + Double(digit - UInt8(ascii: "0")) }
    guard !isNegative && weight >= 1 else {
      throw RoutingError(.preconditionFailed, "The binding key must be greater than 0")
    }
    return weight
  }

  /// Adds a binding; a key that is no weight counts as 1.
  mutating func insert(_ binding: Int32, identity: Bytes, key: Bytes) {
    let weight: Double
    do throws(RoutingError) { weight = try WeightedChoice.weight(key) } catch { weight = 1 }
    entries.append(Entry(binding: binding, seed: identity.withBuffer { Hashing.stable($0) }, weight: weight))
    lookAtWeights()
  }

  mutating func remove(_ binding: Int32) {
    entries.removeAll { $0.binding == binding }
    lookAtWeights()
  }

  private mutating func lookAtWeights() { weightsDiffer = entries.contains { $0.weight != entries[0].weight } }

  /// The binding for a message's hash, nil when there is none.
  /// - Complexity: O(bindings)
  func choose(_ hash: UInt64) -> Int32? {
    guard var best = entries.first else { return nil }
    if !weightsDiffer {
      var most = Hashing.mix(hash ^ best.seed)
      for entry in entries.dropFirst() {
        let draw = Hashing.mix(hash ^ entry.seed)
        if draw > most { (most, best) = (draw, entry) }
      }
      return best.binding
    }
    var most = -1.0
    for entry in entries {
      let draw = entry.weight / -naturalLogarithm(ofFraction: Hashing.mix(hash ^ entry.seed))
      if draw > most { (most, best) = (draw, entry) }
    }
    return best.binding
  }
}

/// ln((bits + ½) / 2⁵²) for the upper 52 bits, in plain arithmetic that rounds alike on every machine: a library's `log`
/// may differ in the last digit from one version to the next. Below 0, error below 10⁻⁹.
private func naturalLogarithm(ofFraction bits: UInt64) -> Double {
  let u = (Double(bits >> 12) + 0.5) * 0x1p-52
  // u = m · 2^e with m in [1, 2); ln m = 2 artanh((m − 1) / (m + 1)), a series in s ≤ 1/3.
  let s = (u.significand - 1) / (u.significand + 1)
  let q = s * s
  var series = 1.0 / 19
  for n in stride(from: 17.0, through: 1, by: -2) { series = series * q + 1 / n }
  return Double(u.exponent) * 0.693_147_180_559_945_3 + 2 * s * series
}
