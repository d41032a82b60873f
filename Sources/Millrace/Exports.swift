// Exports: what `import Millrace` brings beside its own types: records, streams, queues.
//
// From the general modules single names only, so that their other names do not get in the way of an embedder's own.

@_exported import struct MillraceBase.ByteReader
@_exported import struct MillraceBase.ByteWriter
@_exported import struct MillraceBase.Bytes
@_exported import enum MillraceBase.LogLevel
@_exported import struct MillraceBase.Logger
@_exported import struct MillraceBase.Timestamp
@_exported import struct MillraceConnectors.FileRolling
@_exported import struct MillraceConnectors.FileSinkOptions
@_exported import struct MillraceConnectors.MachineMetric
@_exported import enum MillraceConnectors.RowFormat
@_exported import MillraceDataflow
@_exported import struct MillraceIO.SocketAddress
@_exported import struct MillraceIO.TLSConfiguration
@_exported import enum MillraceModel.CompressionCodec
@_exported import typealias MillraceModel.Offset
@_exported import struct MillraceModel.Record
@_exported import struct MillraceModel.RecordBatchBuilder
@_exported import struct MillraceModel.RecordHeader
@_exported import MillraceQueue
@_exported import struct MillraceQueueing.QueueFigures
@_exported import enum MillraceSecurity.AccessOperation
@_exported import struct MillraceSecurity.AccessRule
@_exported import struct MillraceSecurity.Principal
@_exported import enum MillraceSecurity.ResourceKind
@_exported import struct MillraceSecurity.ResourcePattern
@_exported import enum MillraceSecurity.SaslMechanism
@_exported import MillraceStreams
