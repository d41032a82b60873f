// The job: clicks in, and how often each page was seen.

import Millrace

/// Somebody looks at a page: {"user":"ann","page":"/","time":1000}, the time in ms since 1970.
struct Click: TypedRecord {
  var user = ""
  var page = ""
  var time = Timestamp(milliseconds: 0)

  static let schema = RecordSchema<Click>(
    .field("user", \.user), .field("page", \.page), .field("time", \.time))
}

/// Counts clicks by page.
public let job = DataStream.topic("clicks")
  .decode(Click.self, from: .json)
  .keyBy { $0.page }
  .count(name: "views")
  .to(topic: "views")
  .job(named: "page-views")
