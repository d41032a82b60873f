// ErlangFormulas: the probabilities that all of c servers are busy.
//
//   Erlang B, blocked calls are lost:   B(0, a) = 1,  B(k, a) = a·B(k−1, a) / (k + a·B(k−1, a))
//   Erlang C, who finds no server waits: C(c, a) = B / ((1 − ρ) + ρ·B),  ρ = a/c
//
// `a` is the offered load in erlangs, arrival rate divided by one server's rate. The recursion adds positive numbers
// only, so it neither cancels nor overflows, where sums of a^k/k! do both. Source: Cooper, "Introduction to Queueing
// Theory", 2nd edition 1981, section 3.

/// Erlang's formulas.
public enum Erlang {
  /// The probability that an arrival finds all of `servers` busy when whoever finds that is turned away.
  /// - Parameters:
  ///   - servers: at least 0.
  ///   - load: offered load in erlangs, finite, at least 0.
  /// - Complexity: O(servers).
  public static func blocking(servers: Int, load: Double) -> Double {
    precondition(servers >= 0 && load >= 0 && load.isFinite, "no such system: \(servers) servers, load \(load)")
    guard servers > 0 else { return 1 }
    var blocking = 1.0
    for count in 1...servers { blocking = next(blocking, servers: count, load: load) }
    return blocking
  }

  /// B of `servers` from B of one server less.
  static func next(_ blocking: Double, servers: Int, load: Double) -> Double {
    let weighted = load * blocking
    return weighted / (Double(servers) + weighted)
  }

  /// The probability that an arrival finds all of `servers` busy when whoever finds that waits; 1 when the load is
  /// `servers` or more, because then in the long run everybody waits.
  /// - Complexity: O(servers).
  public static func waiting(servers: Int, load: Double) -> Double {
    waiting(blocking: blocking(servers: servers, load: load), servers: servers, load: load)
  }

  /// C from B.
  static func waiting(blocking: Double, servers: Int, load: Double) -> Double {
    let servers = Double(servers)
    guard load < servers else { return 1 }
    return blocking / ((servers - load) / servers + load / servers * blocking)
  }
}
