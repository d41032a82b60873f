// UserCommand: `millrace user`: lists users, gives them passwords, deletes them.

import MillraceBase
import MillraceIO
import MillraceSecurity

extension Command {
  /// `millrace user`
  static let user = Command(
    "user", "lists users, gives them passwords, deletes them", subcommands: [.userList, .userSet, .userDelete])

  private static let userOperand = Operand("NAME", "The user's name.")

  private static let userList = Command(
    "list", "names all users with passwords, and how these are kept",
    options: [CommandOption(flag: "--json", "Writes it as JSON, one line."), .bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let client = try arguments.client()
    let users = try CommandFailure.wrapping { () throws(ClientError) in try client.users() }
    guard arguments.has("--json") else {
      if users.isEmpty { return .done }
      try OutputStream.standardOutput.print(
        Shown.table(
          [["user", "credentials"]]
            + users.map { user in
              [user.name, user.credentials.map { "\($0.mechanism) (\($0.iterations))" }.joined(separator: ", ")]
            }))
      return .done
    }
    var json = JSONWriter()
    json.array { json in
      for user in users {
        json.object { json in
          json.name("name")
          json.string(user.name)
          json.name("credentials")
          json.array { json in
            for credential in user.credentials {
              json.object { json in
                json.name("mechanism")
                json.string(credential.mechanism)
                json.name("iterations")
                json.number(credential.iterations)
              }
            }
          }
        }
      }
    }
    try OutputStream.standardOutput.print(json.text + "\n")
    return .done
  }

  private static let userSet = Command(
    "set", "gives a user a password, and makes the user when there is none",
    discussion: """
      The password is the first line of standard input; --generate makes one and writes it to standard output. It is hashed \
      here, for SCRAM-SHA-256 and SCRAM-SHA-512, and does not leave this program. Rules say what the user may do: \
      `millrace acl`.
      """,
    operands: [userOperand],
    options: [CommandOption(flag: "--generate", "Makes a password of 128 random bits and shows it."), .bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let password = arguments.has("--generate") ? Secret.readable() : try readPassword()
    let client = try arguments.client()
    try CommandFailure.wrapping { () throws(ClientError) in
      try client.setPassword(password, of: arguments.operands[0])
    }
    if arguments.has("--generate") {
      try OutputStream.standardOutput.print(password.withBytes { String(decoding: $0, as: UTF8.self) } + "\n")
    }
    return .done
  }

  private static func readPassword() throws(CommandFailure) -> Secret {
    var line: [UInt8] = []
    do throws(IOError) {
      let input = StandardInput()
      reading: while line.count <= ScramCredential.longestPassword {
        let room = Chunk(capacity: 256)
        let got = try input.read(into: UnsafeMutableRawBufferPointer(start: room.base, count: room.capacity))
        if got == 0 { break }
        for byte in room.bytes(0..<got).withBuffer({ Array($0) }) {
          if byte == 0x0a { break reading }
          line.append(byte)
        }
      }
    } catch {
      throw CommandFailure(.failed, error.description)
    }
    if line.last == 0x0d { line.removeLast() }
    return Secret(line)
  }

  private static let userDelete = Command(
    "delete", "takes a user's passwords away", operands: [userOperand], options: [.bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let client = try arguments.client()
    try CommandFailure.wrapping { () throws(ClientError) in try client.deleteUser(arguments.operands[0]) }
    return .done
  }
}
