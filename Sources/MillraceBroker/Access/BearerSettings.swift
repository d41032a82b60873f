// BearerSettings: the settings of tokens: who signs them, and what they must say.

import MillraceBase
import MillraceSecurity

extension BrokerSettings {
  static let bearerTable: [Setting] = [
    Setting(
      "sasl.oauthbearer.jwks.endpoint.url", .string, "", check: keyFileProblem,
      "The file with the public keys that tokens are verified with, as a path or as file:///PATH; nothing is fetched."),
    Setting(
      "sasl.oauthbearer.expected.issuer", .string, "",
      "The issuer (iss) that a token must name; empty for any that the keys vouch for."),
    Setting(
      "sasl.oauthbearer.expected.audience", .list, "",
      "Audiences (aud), with commas; a token must name one of them. Empty for any, also tokens meant for others."),
    Setting(
      "sasl.oauthbearer.expected.scope", .list, "", "Scopes that a token must have, all of them, with commas."),
    Setting(
      "sasl.oauthbearer.sub.claim.name", .string, "sub", check: { claimProblem("sasl.oauthbearer.sub.claim.name", $0) },
      "The claim that names the user."),
    Setting(
      "sasl.oauthbearer.scope.claim.name", .string, "scope",
      check: { claimProblem("sasl.oauthbearer.scope.claim.name", $0) }, "The claim with a token's scopes."),
    Setting(
      "sasl.oauthbearer.clock.skew.seconds", .int, "30", range: 0...3600,
      "How much the clock of who signs tokens may differ from this machine's, in seconds."),
  ]

  private static func keyFileProblem(_ value: String) -> String? {
    guard let mark = value.firstRange(of: ":/") else { return nil }
    let scheme = value[..<mark.lowerBound].lowercased()
    // A path may hold anything behind its first slash.
    guard !scheme.contains("/") else { return nil }
    guard scheme == "file" else {
      return "sasl.oauthbearer.jwks.endpoint.url must be a file on this machine, not \"\(value)\": keys are not fetched"
    }
    return filePath(value) == nil
      ? "sasl.oauthbearer.jwks.endpoint.url must be file:///PATH, not \"\(value)\"" : nil
  }

  /// The path of a value that is one, or a URL of a file on this machine, without escapes.
  private static func filePath(_ value: String) -> String? {
    guard value.lowercased().hasPrefix("file:") else { return value }
    var rest = value.dropFirst(5)
    if rest.hasPrefix("//localhost/") {
      rest = rest.dropFirst(11)
    } else if rest.hasPrefix("///") {
      rest = rest.dropFirst(2)
    }
    return rest.hasPrefix("/") && !rest.hasPrefix("//") && !rest.contains("%") ? String(rest) : nil
  }

  private static func claimProblem(_ name: String, _ value: String) -> String? {
    value.isEmpty ? "\(name) must name a claim" : nil
  }

  /// `sasl.oauthbearer.jwks.endpoint.url` as a path; nil when there are no keys.
  public var tokenKeyFile: String? {
    let value = text("sasl.oauthbearer.jwks.endpoint.url") ?? ""
    return value.isEmpty ? nil : BrokerSettings.filePath(value)
  }

  /// What is asked of tokens.
  public var bearerRules: BearerTokenRules {
    func list(_ name: String) -> [String] {
      (text(name) ?? "").split(separator: ",").map { $0.trimmingBlanks }.filter { !$0.isEmpty }
    }
    var rules = BearerTokenRules()
    if let issuer = text("sasl.oauthbearer.expected.issuer"), !issuer.isEmpty { rules.issuer = issuer }
    rules.audiences = list("sasl.oauthbearer.expected.audience")
    rules.requiredScopes = list("sasl.oauthbearer.expected.scope")
    rules.subjectClaim = text("sasl.oauthbearer.sub.claim.name") ?? rules.subjectClaim
    rules.scopeClaim = text("sasl.oauthbearer.scope.claim.name") ?? rules.scopeClaim
    rules.clockSkew = .seconds(integer("sasl.oauthbearer.clock.skew.seconds"))
    return rules
  }
}

extension Substring {
  /// Without spaces at both ends.
  fileprivate var trimmingBlanks: String {
    let behind = drop { $0 == " " }
    return String(
      behind.prefix(upTo: behind.lastIndex { $0 != " " }.map { behind.index(after: $0) } ?? behind.startIndex))
  }
}
