// RecordRoutes: records into topics and out of them.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceModel
import MillraceSecurity

enum RecordRoutes {
  static let partitionNumber = HTTPParameter("partition", .integer(0...Int64(Int32.max)), "The partition.")
  static let readAccess = HTTPAccess.needs([HTTPRequirement(.read, .topic, .path("topic"))])
  static let position = [
    HTTPParameter("offset", .count, "Where to begin; nothing else says so then."),
    HTTPParameter("from", .words(["earliest", "latest"]), "Where to begin (default `earliest`; of events `latest`)."),
    HTTPParameter(
      "timestamp", .count, "Begin with the first record of this time or later, in milliseconds since 1970."),
  ]
  static let format = HTTPParameter(
    "format", .words(RecordJSON.Format.allCases.map(\.rawValue)),
    "How keys and values are shown: as `text` where they are UTF-8, else as base 64 in `keyBase64` and `valueBase64` "
      + "(the default); the same, but values that are JSON as `json`; or all as `base64`.")

  static let all: [HTTPRoute] = [
    HTTPRoute(
      .post, "/api/v1/topics/{topic}/records", "Records",
      "Appends records; the answer comes when they are durable. As JSON any number, or one record whose value is the body.",
      .needs([HTTPRequirement(.write, .topic, .path("topic"))]), path: [TopicRoutes.topicName],
      query: [
        HTTPParameter("partition", .integer(0...Int64(Int32.max)), "Partition of a record that is sent as bytes."),
        HTTPParameter("key", .text(0...512), "Key of a record that is sent as bytes."),
      ],
      request: .jsonOrBytes(
        .object([.required("records", .list(RecordJSON.newRecord, 1...10_000))])),
      largestBody: { $0.broker.settings.largestMessage }, status: .created,
      response: .json(
        .object([
          .required(
            "records", .array(.object([.required("partition", .count), .required("offset", .count)])),
            "Where each record is, in the order of the request.")
        ])),
      use: .producerBytes, handler: produce),
    HTTPRoute(
      .get, "/api/v1/topics/{topic}/partitions/{partition}/records", "Records",
      "Reads records from a position on, those of ended transactions only. With `wait` it waits for at least one.",
      readAccess, path: [TopicRoutes.topicName, partitionNumber],
      query: position + [
        HTTPParameter("limit", .integer(1...10_000), "Most records (default 100)."),
        HTTPParameter("wait", .integer(0...60_000), "How long to wait for records, in milliseconds (default 0)."),
        format,
      ],
      response: .json(
        .object([
          .required("records", .array(RecordJSON.record)), .required("nextOffset", .count, "Where to go on."),
          .required("startOffset", .count), .required("endOffset", .count),
        ])),
      use: .consumerBytes, handler: read),
    HTTPRoute(
      .get, "/api/v1/topics/{topic}/partitions/{partition}/records/{offset}/value", "Records",
      "The value of one record, as bytes.", readAccess,
      path: [TopicRoutes.topicName, partitionNumber, HTTPParameter("offset", .count, "The record's offset.")],
      response: .bytes, use: .consumerBytes, handler: value),
    HTTPRoute(
      .get, "/api/v1/topics/{topic}/partitions/{partition}/events", "Records",
      "Records as they come, as server-sent events; the id of each is its offset, and `Last-Event-ID` goes on behind one.",
      readAccess, path: [TopicRoutes.topicName, partitionNumber], query: position + [format], response: .events,
      use: .consumerBytes, handler: events),
    HTTPRoute(
      .delete, "/api/v1/topics/{topic}/partitions/{partition}/records", "Records",
      "Deletes the records of a partition below an offset, or all.",
      .needs([HTTPRequirement(.delete, .topic, .path("topic"))]), path: [TopicRoutes.topicName, partitionNumber],
      query: [HTTPParameter("before", .count, "The first offset to keep; all records are deleted without it.")],
      response: .json(.object([.required("startOffset", .count)])), handler: trim),
  ]

  // MARK: In

  static func produce(_ call: HTTPCall) throws(HTTPProblem) {
    let topic = try TopicRoutes.found(call)
    var wishes: [RecordJSON.Wish] = []
    if call.isJSON {
      guard let list = try call.json()?["records"]?.array else { return }
      for (index, value) in list.enumerated() {
        wishes.append(try RecordJSON.read(value, at: "/records/\(index)"))
      }
    } else {
      wishes = [
        RecordJSON.Wish(
          record: Record(key: call.query("key").map { Bytes($0) }, value: call.body),
          partition: call.number("partition").map { Int32($0) })
      ]
    }
    let server = call.server
    let now = server.broker.reactor.wallClock
    // Records without a key go together to one partition, the next request's to the next.
    server.keylessRecords &+= 1
    let keyless = Int32(server.keylessRecords % topic.partitions.count)
    var builders: [Int32: RecordBatchBuilder] = [:]
    var places: [(partition: Int32, index: Int64)] = []
    for (index, wish) in wishes.enumerated() {
      var record = wish.record
      if record.timestamp == .none { record.timestamp = now }
      let partition =
        wish.partition
        ?? record.key.map {
          $0.withBuffer { Int32(Hashing.kafkaPartition(key: $0, partitions: topic.partitions.count)) }
        } ?? keyless
      guard Int(partition) < topic.partitions.count else {
        throw HTTPProblem(
          .notFound, "unknown-partition",
          "topic \(topic.name) has no partition \(partition), only 0 to \(topic.partitions.count - 1)",
          at: call.isJSON ? "/records/\(index)/partition" : "query partition")
      }
      if builders[partition] == nil { builders[partition] = RecordBatchBuilder() }
      places.append((partition, Int64(builders[partition]?.count ?? 0)))
      builders[partition]?.append(record)
    }
    let run = Appending(call, places)
    for partition in builders.keys.sorted() {
      guard var builder = builders[partition] else { continue }
      run.begin()
      server.broker.produce(topic, partition, records: builder.finish()) { run.appended(partition, $0) }
    }
    run.end()
  }

  /// The batches of one request on their way.
  private final class Appending {
    private let call: HTTPCall
    private let places: [(partition: Int32, index: Int64)]
    private var bases: [Int32: Offset] = [:]
    private var failure: (partition: Int32, error: BrokerError)?
    private var open = 1

    init(_ call: HTTPCall, _ places: [(partition: Int32, index: Int64)]) {
      self.call = call
      self.places = places
    }

    func begin() { open += 1 }

    func appended(_ partition: Int32, _ result: Result<AppendedBatch, BrokerError>) {
      switch result {
      case .success(let batch): bases[partition] = batch.baseOffset
      case .failure(let error): if failure == nil { failure = (partition, error) }
      }
      end()
    }

    func end() {
      open -= 1
      guard open == 0 else { return }
      if let failure {
        var problem = HTTPProblem(failure.error)
        if !bases.isEmpty {
          problem.detail += "; the records of partitions \(bases.keys.sorted()) are appended all the same"
        }
        return call.fail(problem)
      }
      call.answerObject(.created) { json in
        json.name("records")
        json.array { json in
          for place in places {
            json.object { json in
              json.name("partition")
              json.number(place.partition)
              json.name("offset")
              json.number((bases[place.partition] ?? 0) + place.index)
            }
          }
        }
      }
    }
  }

  // MARK: Out

  static func partition(_ call: HTTPCall) throws(HTTPProblem) -> PartitionLog {
    let topic = try TopicRoutes.found(call)
    let number = call.pathNumber("partition")
    guard let log = call.broker.partition(topic, Int32(clamping: number)) else {
      throw HTTPProblem(
        .notFound, "unknown-partition",
        "topic \(topic.name) has no partition \(number), only 0 to \(topic.partitions.count - 1)", at: "path partition")
    }
    return log
  }

  /// Where to begin, as the query says.
  static func start(
    _ call: HTTPCall, _ log: PartitionLog, standard: OffsetQuery,
    _ body: @escaping (Result<Offset, HTTPProblem>) -> Void
  ) throws(HTTPProblem) {
    let given = ["offset", "from", "timestamp"].filter { call.query($0) != nil }
    guard given.count <= 1 else {
      throw HTTPProblem(
        .badRequest, "invalid-value", "only one of offset, from and timestamp can say where to begin",
        at: "query \(given[1])")
    }
    if let offset = call.number("offset") { return body(.success(offset)) }
    var query = standard
    switch call.query("from") {
    case "earliest"?: query = .earliest
    case "latest"?: query = .latest
    default: break
    }
    if let time = call.number("timestamp") { query = .time(Timestamp(milliseconds: time)) }
    call.broker.offset(for: query, in: log, isCommittedOnly: true) { result in
      switch result {
      // No record of that time or later: what comes next is one.
      case .success(let found): body(.success(found.offset < 0 ? log.lastStableOffset : found.offset))
      case .failure(let error): body(.failure(HTTPProblem(error)))
      }
    }
  }

  static func read(_ call: HTTPCall) throws(HTTPProblem) {
    let log = try partition(call)
    let limit = Int(call.number("limit") ?? 100)
    let format = call.query("format").flatMap(RecordJSON.Format.init(rawValue:)) ?? .text
    let wait = Duration.milliseconds(call.number("wait") ?? 0)
    let reading = RecordReading(call, log, limit: limit)
    try start(call, log, standard: .earliest) { result in
      switch result {
      case .failure(let problem): call.fail(problem)
      case .success(let offset):
        if wait > .zero {
          do throws(HTTPProblem) { try call.server.beginWaiting() } catch { return call.fail(error) }
        }
        reading.read(from: offset, wait: wait) { result in
          if wait > .zero { call.server.endWaiting() }
          switch result {
          case .failure(let problem): call.fail(problem)
          case .success(let page):
            call.answerObject { json in
              json.name("records")
              json.array { json in
                for record in page.records {
                  RecordJSON.write(record, Int32(call.pathNumber("partition")), format, to: &json)
                }
              }
              json.name("nextOffset")
              json.number(page.nextOffset)
              json.name("startOffset")
              json.number(log.startOffset)
              json.name("endOffset")
              json.number(log.highWatermark)
            }
          }
        }
      }
    }
  }

  static func value(_ call: HTTPCall) throws(HTTPProblem) {
    let log = try partition(call)
    let offset = call.pathNumber("offset")
    RecordReading(call, log, limit: 1).read(from: offset, wait: .zero) { result in
      switch result {
      case .failure(let problem): call.fail(problem)
      case .success(let page):
        guard let record = page.records.first, record.offset == offset else {
          return call.fail(
            HTTPProblem(.notFound, "unknown-record", "there is no record at offset \(offset)", at: "path offset"))
        }
        call.answer(.ok, "application/octet-stream", record.value ?? Bytes())
      }
    }
  }

  static func events(_ call: HTTPCall) throws(HTTPProblem) {
    let log = try partition(call)
    let format = call.query("format").flatMap(RecordJSON.Format.init(rawValue:)) ?? .text
    func begin(_ offset: Offset) throws(HTTPProblem) {
      try call.server.beginWaiting()
      RecordEvents(call, log, format).begin(from: offset)
    }
    if let last = call.head["last-event-id"] {
      guard let offset = Int64(last), (0..<Int64.max).contains(offset) else {
        throw HTTPProblem(
          .badRequest, "invalid-value", "an offset is expected, not \"\(last.prefix(64))\"", at: "header Last-Event-ID")
      }
      return try begin(offset + 1)
    }
    try start(call, log, standard: .latest) { result in
      do throws(HTTPProblem) { try begin(try result.get()) } catch { call.fail(error) }
    }
  }

  static func trim(_ call: HTTPCall) throws(HTTPProblem) {
    let topic = try TopicRoutes.found(call)
    _ = try partition(call)
    call.broker.deleteRecords(topic, Int32(call.pathNumber("partition")), before: call.number("before")) { result in
      switch result {
      case .success(let start):
        call.answerObject { json in
          json.name("startOffset")
          json.number(start)
        }
      case .failure(let error): call.fail(HTTPProblem(error))
      }
    }
  }
}
