// The job: what comes from the topic "lines", and what becomes of it.

import Millrace

/// Counts words: lines in, a count for each word out.
///
/// State and positions are kept under the job's name, and those of an operator under the operator's: names stay when the
/// code changes.
public let job = DataStream.topic("lines")
  .flatMap(Words())
  .keyBy { $0 }
  .count(name: "words")
  .to(topic: "counts")
  .job(named: "page-views")
