// LogConfiguration: sizes and limits of one data directory's log.

/// Sizes and limits of a log. The defaults suit a small machine.
public struct LogConfiguration: Sendable {
  /// The data directory.
  public var directory: String
  /// Size of a journal file once the journal has grown to it, in bytes; a multiple of 4,096.
  ///
  /// Half of the hot tail, so that a file that was just sealed is drained from memory.
  public var journalFileSize = 32 << 20
  /// Size of the very first journal file, small so that an empty start is instant; later ones grow fourfold.
  public var firstJournalFileSize = 1 << 20
  /// Most journal files, written and spare together; producers wait when all hold data that is not drained yet.
  public var journalFileLimit = 16
  /// Sealed journal files are drained once their records reach this many bytes together, or half a file's size, or once
  /// half of all files wait. So sparse files share a segment.
  public var drainSize = 16 << 20
  /// Recent commits kept in memory for readers, in bytes.
  public var hotTailSize = 64 << 20
  /// Verified bytes of segments kept for readers that go on in order, and read ahead for them, in bytes.
  public var readWindowsSize = 32 << 20
  /// An open commit of this size is written even while another write is in flight.
  public var commitSize = 256 << 10
  /// Most writes in flight at once.
  public var writeDepth = 4
  /// Largest unit (all that one append makes atomic), in bytes.
  public var largestUnit = 32 << 20
  /// Bytes of batches that one segment block holds before it is closed.
  public var segmentBlockSize = 64 << 10
  /// Producers that were silent for this long are forgotten when a snapshot is written, in ms. Kafka's default.
  public var producerExpiration: Int64 = 86_400_000
  /// Most bytes for the map of keys that compaction of a partition uses; it takes several passes when they do not fit.
  public var keyMapSize = 128 << 20
  /// Compacted and merged segments are about this large, in bytes.
  public var compactedSegmentSize = 64 << 20
  /// Small segments are merged when the runs of batches in them have fewer bytes than this on average.
  public var mergedRunSize: Int64 = 64 << 10
  /// Compaction and merging read no faster than this, in bytes a second.
  public var cleanerBytesPerSecond = 64 << 20
  /// Compaction and merging pause after about so many bytes, so that they hold a background thread only for so long.
  var cleanerStepSize = 4 << 20
  /// How long a clock that has jumped forwards must go on evenly before records expire by it, in ms; 0 for at once.
  public var clockHold: Int64 = 3_600_000
  /// With fewer free bytes on the disk than this, records are refused; 0 to take them until it is full.
  public var lowSpace: Int64 = 0
  /// All segments are read and verified at this rate, in bytes a second; 0 for never.
  public var scrubBytesPerSecond = 0
  /// From the end of one such round to the beginning of the next, in ms.
  public var scrubInterval: Int64 = 604_800_000
  /// How long after the last commit an idle journal writes a header that makes it known as durable, in ms.
  public var idleHeaderDelay: Int64 = 100
  /// Batches that several partitions have are given to readers with the offsets that stand in their bytes, which may be
  /// another partition's: a fault, for checks that have to notice it.
  package var leavesBaseOffsets = false

  /// The defaults for `directory`.
  public init(directory: String) {
    self.directory = directory
  }
}
