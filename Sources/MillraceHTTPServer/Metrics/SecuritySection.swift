// SecuritySection: the metrics of who came in and who did not.

import MillraceBase
import MillraceBroker

enum SecuritySection {
  static func write(_ server: HTTPServer, to writer: inout MetricsWriter) {
    let authentication: Authentication = server.broker.authentication
    writer.head(
      "millrace_authentications_total", "counter",
      "Attempts of clients to prove who they are. Over HTTP one that succeeds counts once a minute for each user and address."
    )
    let attempts = authentication.attempts.sorted {
      ($0.key.protocolName, $0.key.mechanism.rawValue, $0.key.isAccepted ? 0 : 1)
        < ($1.key.protocolName, $1.key.mechanism.rawValue, $1.key.isAccepted ? 0 : 1)
    }
    for (attempt, count) in attempts {
      MetricsLabels(
        ("protocol", attempt.protocolName), ("mechanism", attempt.mechanism.rawValue),
        ("result", attempt.isAccepted ? "accepted" : "refused")
      ).withBytes { writer.line("millrace_authentications_total", "", $0, count) }
    }
    writer.single(
      "millrace_passwords_turned_away_total", "counter",
      "Passwords that were not checked, because too many others were.", authentication.counts.turnedAway)
    writer.single(
      "millrace_audit_lost_records_total", "counter", "Records of the audit that could not be written.",
      server.broker.audit.lost)
    let handshakes = server.handshakes()
    guard !handshakes.isEmpty else { return }
    writer.head(
      "millrace_tls_handshakes_total", "counter",
      "Handshakes of TLS by listener, and those that failed or were broken off after a first byte.")
    for (listener, accepted, failed) in handshakes {
      for (result, count) in [("accepted", accepted), ("failed", failed)] {
        MetricsLabels(("listener", listener), ("result", result)).withBytes {
          writer.line("millrace_tls_handshakes_total", "", $0, UInt64(count))
        }
      }
    }
  }
}
