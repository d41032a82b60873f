// WordCount: the job that counts the words of a topic's text.

import MillraceDataflow

/// Counts words: from a topic of text lines to a topic of counts.
public enum WordCount {
  /// A job that reads lines and writes, for each word a step met, one record: the word as key and its count so far as
  /// decimal text. What a word is: ``Words``.
  ///
  /// - Parameters:
  ///   - name: owns the counts and the positions.
  ///   - lines: topic to read; every partition.
  ///   - counts: topic to write.
  public static func job(named name: String = "word-count", from lines: String = "lines", to counts: String = "counts")
    -> JobDefinition
  {
    DataStream.topic(lines).flatMap(Words()).keyBy { $0 }.count(name: "words").to(topic: counts).job(named: name)
  }
}
