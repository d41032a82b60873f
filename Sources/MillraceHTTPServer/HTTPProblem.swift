// HTTPProblem: why a request was not done, as RFC 9457 has it: {"type", "title", "status", "detail", "at"}.
//
// `type` is `urn:millrace:` and a word that stays the same from version to version; `at` names the part of the request that
// is wrong: a JSON pointer into the body, or `query NAME`, `path NAME`, `header NAME`; it is left out where no part is.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceRouting

/// A refusal.
public struct HTTPProblem: Error {
  /// What it is answered with.
  public var status: HTTPStatus
  /// The kind, for programs.
  public var kind: String
  /// What is wrong, with names and values, for people.
  public var detail: String
  /// Where in the request.
  public var place: String?
  /// Fields that the status asks for.
  var fields: [(name: StaticString, value: String)] = []

  /// A refusal.
  public init(_ status: HTTPStatus, _ kind: String, _ detail: String, at place: String? = nil) {
    self.status = status
    self.kind = kind
    self.detail = detail
    self.place = place
  }

  /// The broker's refusal.
  public init(_ error: BrokerError) {
    let (status, kind): (HTTPStatus, String) =
      switch error.code {
      case .unknownTopicOrPartition, .unknownTopicID: (.notFound, "unknown-topic")
      case .unknownQueue: (.notFound, "unknown-queue")
      case .unknownGroup: (.notFound, "unknown-group")
      case .unknownJob: (.notFound, "unknown-job")
      case .topicExists: (.conflict, "topic-exists")
      case .groupNotEmpty: (.conflict, "group-not-empty")
      case .unknownMember, .rebalanceInProgress, .illegalGeneration, .fencedInstance, .staleMemberEpoch:
        (.conflict, "group-has-members")
      case .policyViolation: (.conflict, "policy-violation")
      case .queueTaken: (.conflict, "queue-taken")
      case .fencedJob, .stoppedJob: (.conflict, "job-stopped")
      case .messageTooLarge: (.contentTooLarge, "message-too-large")
      case .offsetOutOfRange: (.rangeNotSatisfiable, "offset-out-of-range")
      case .storage: (.insufficientStorage, "storage")
      case .stopped: (.unavailable, "stopping")
      case .corruptBatch: (.internalError, "corrupt-data")
      case .groupLoading, .groupUnavailable: (.unavailable, "group-unavailable")
      default: (.badRequest, "invalid-request")
      }
    self.init(status, kind, error.reason)
  }

  /// A refusal of queues and exchanges.
  public init(_ error: RoutingError) {
    let (status, kind): (HTTPStatus, String) =
      switch error.code {
      case .accessRefused: (.forbidden, "access-refused")
      case .notFound: (.notFound, "not-found")
      case .resourceLocked: (.conflict, "resource-locked")
      case .preconditionFailed: (.conflict, "precondition-failed")
      case .notAllowed: (.notFound, "unknown-vhost")
      case .syntaxError: (.badRequest, "invalid-request")
      case .resourceError: (.insufficientStorage, "storage")
      case .notImplemented: (.conflict, "not-for-this-queue")
      default: (.unavailable, "stopping")
      }
    self.init(status, kind, error.message)
  }

  static func unknownTopic(_ name: String) -> HTTPProblem {
    HTTPProblem(.notFound, "unknown-topic", "topic \(name) does not exist", at: "path topic")
  }

  /// The body of the answer.
  var json: Bytes { json(forManagement: false) }

  /// - Parameter forManagement: also `error` and `reason`, which RabbitMQ's tools read.
  func json(forManagement: Bool) -> Bytes {
    var json = JSONWriter()
    json.object { json in
      json.name("type")
      json.string("urn:millrace:\(kind)")
      json.name("title")
      json.string("\(status.phrase)")
      json.name("status")
      json.number(status.code)
      json.name("detail")
      json.string(detail)
      if let place {
        json.name("at")
        json.string(place)
      }
      if forManagement {
        json.name("error")
        json.string(kind)
        json.name("reason")
        json.string(detail)
      }
    }
    return Bytes(json.bytes)
  }

  /// What every refusal looks like.
  static let schema = HTTPSchema.object([
    .required("type", .string, "What kind, for programs: `urn:millrace:` and a word."),
    .required("title", .string, "The status in words."),
    .required("status", .integer(400...599), "The status."),
    .required("detail", .string, "What is wrong, with names and values."),
    .optional("at", .string, "Where: a JSON pointer into the body, or `query NAME`, `path NAME`, `header NAME`."),
    .optional("error", .string, "The kind, below /api without a version."),
    .optional("reason", .string, "The detail, below /api without a version."),
  ])
}
