// The job: clicks in, and how often each page was seen in each minute.

import Millrace

/// Somebody looks at a page: {"user":"ann","page":"/","time":1000}, the time in ms since 1970.
struct Click: TypedRecord {
  var user = ""
  var page = ""
  var time = Timestamp(milliseconds: 0)

  static let schema = RecordSchema<Click>(
    .field("user", \.user), .field("page", \.page), .field("time", \.time))
}

/// How often a page was seen in a minute: {"page":"/","minute":0,"views":3}, the minute since 1970.
struct PageMinute: TypedRecord {
  var page = ""
  var minute: Int64 = 0
  var views: Int64 = 0

  static let schema = RecordSchema<PageMinute>(
    .field("page", \.page), .field("minute", \.minute), .field("views", \.views))
}

/// Counts clicks by page and minute.
public let job = DataStream.topic("clicks")
  .decode(Click.self, from: .json)
  .eventTime(.boundedOutOfOrderness(.seconds(10)), name: "click-times") { $0.time }
  .keyBy { $0.page }
  .window(.tumbling(.seconds(60)))
  .allowedLateness(.seconds(30))
  .lateValues(to: TextTopicSink<Click>(topic: "too-late", format: .json))
  .count(name: "views-in-minutes")
  .map { PageMinute(page: $0.key, minute: $0.window.start.milliseconds / 60_000, views: $0.value) }
  .to(topic: "minutes", as: .json)
  .job(named: "views-per-minute")
