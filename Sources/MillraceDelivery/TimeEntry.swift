// TimeEntry: the entries of the queue's indexes by time.

import MillraceModel

/// A message and a time in ms. What it stands for may have passed: it counts only while the slot has the same time.
struct TimeEntry: Comparable {
  var time: Int64
  var position: Position

  static func < (left: TimeEntry, right: TimeEntry) -> Bool {
    left.time != right.time ? left.time < right.time : left.position < right.position
  }
}
