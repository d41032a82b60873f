// NewCommand: `millrace new`: writes a package that somebody begins with.

import Glibc
import MillraceBase
import MillraceIO

extension Command {
  /// `millrace new`
  static let new = Command("new", "writes a Swift package to begin with", subcommands: [.newJob])

  private static let newJob = Command(
    "job", "writes a package with a stream job, which joins a running server as a worker",
    discussion: """
      The package counts words, with a test, and says in its README how it is built and run. It is written into a new folder of the \
      job's name. One of --path and --url says where the package millrace comes from.
      """,
    operands: [Operand("NAME", "The job's name: lower-case letters, digits and -, a letter first.")],
    options: [
      CommandOption("--path", "CHECKOUT", "Millrace's sources on this machine."),
      CommandOption("--url", "URL", "Millrace's repository; its branch main is taken."),
    ]
  ) { (arguments) throws(CommandFailure) in
    let name = arguments.operands[0]
    let package: JobTemplate.Millrace
    switch (arguments.text("--path"), arguments.text("--url")) {
    case (let path?, nil): package = .path(try checkout(path))
    case (nil, let url?): package = .url(url)
    default: throw CommandFailure(.usage, "one of --path and --url must say where Millrace comes from")
    }
    guard let template = JobTemplate(name: name, millrace: package) else {
      throw CommandFailure(.usage, "NAME must be of lower-case letters, digits and -, a letter first, not \"\(name)\"")
    }
    do throws(IOError) {
      try write(template.files, into: name)
    } catch {
      throw CommandFailure(.failed, error.description)
    }
    try OutputStream.standardOutput.print(
      "wrote \(name): a job that counts words; \(name)/README.md says how to run it\n")
    return .done
  }

  /// The path of a checkout, which is named from elsewhere.
  private static func checkout(_ path: String) throws(CommandFailure) -> String {
    guard let resolved = realpath(path, nil) else {
      throw CommandFailure(.failed, "--path: \(path) is not there")
    }
    defer { free(resolved) }
    let absolute = String(cString: resolved)
    let isThere: Bool
    do throws(IOError) { isThere = try LinuxFileSystem().exists(absolute + "/Package.swift") } catch { isThere = false }
    guard isThere else { throw CommandFailure(.failed, "--path: \(absolute) holds no Package.swift") }
    return absolute
  }

  private static func write(_ files: [(path: String, text: String)], into folder: String) throws(IOError) {
    let disk = LinuxFileSystem()
    guard try !disk.exists(folder) else {
      throw IOError(.alreadyExists, operation: "make", subject: folder, reason: "it is there already")
    }
    for (path, text) in files {
      var directory = folder
      try disk.createDirectory(directory)
      for part in path.split(separator: "/").dropLast() {
        directory += "/" + part
        try disk.createDirectory(directory)
      }
      let file = try disk.open(folder + "/" + path, [.write, .create, .exclusive])
      defer { file.close() }
      try Bytes(text).withBuffer { buffer throws(IOError) in try file.write(buffer, at: 0) }
    }
  }
}
