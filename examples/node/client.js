// A client on the path by reconnecting: it asks the broker where the service is, and
// dials that. Node can neither take a connection that is handed over in the middle of
// its stream nor tell a Unix socket's user, so the broker's and the backend's directories
// must be this user's alone, as they are where usher made them.
//
//     node client.js SERVICE VERSION LINE...
//
// The exit code says what is known of the last line: 0 answered, 2 nobody has read it,
// 3 it may have run. Protocol: docs/protocol.md, "Framing" to "HelloReply".
'use strict'
const net = require('node:net')

const RETRIED = [3, 4, 5, 9] // SPAWN_FAILED, RATE_LIMITED, SHUTTING_DOWN, FD_PRESSURE
const TIMEOUT = 10000 // ms for one answer

class NotRun extends Error {
  retryAfter = 50 // ms; undefined: do not
}
class Unknown extends Error {}

function varint (n) {
  const out = []
  for (; n > 0x7f; n = Math.floor(n / 128)) out.push(n % 128 | 0x80)
  return Buffer.from([...out, n])
}

const number = (field, n) => Buffer.concat([varint(field * 8), varint(n)])

function bytes (field, value) {
  const content = Buffer.from(value)
  return Buffer.concat([varint(field * 8 + 2), varint(content.length), content])
}

// parse returns {field: number or Buffer} of an encoded message.
function parse (data) {
  const fields = {}
  let at = 0
  const take = n => {
    if (n > data.length - at) throw new Error('message cut short')
    at += n
    return data.subarray(at - n, at)
  }
  const next = () => {
    for (let n = 0, factor = 1; factor < 2 ** 70; factor *= 128) {
      const b = take(1)[0]
      n += (b & 0x7f) * factor
      if (b < 0x80) return n
    }
    throw new Error('number too long')
  }
  while (at < data.length) {
    const key = next()
    const kind = key % 8
    if (![0, 1, 2, 5].includes(kind)) throw new Error('no message')
    fields[Math.floor(key / 8)] = kind === 0 ? next() : take(kind === 2 ? next() : kind === 1 ? 8 : 4)
  }
  return fields
}

function hello (service, version) { // no capability: a token would be of no use here
  const payload = Buffer.concat([number(1, 1), number(2, 1), bytes(3, service), bytes(4, version), bytes(8, 'hello'), bytes(11, 'usher-node')])
  const body = Buffer.concat([number(1, 1), bytes(4, payload), number(5, 1)])
  const header = Buffer.from([1, 0, 0, 0, 0])
  header.writeUInt32LE(body.length, 1)
  return Buffer.concat([header, body])
}

// exchange sends what it is given and resolves to what whole() makes of all that has come,
// as soon as that is not undefined. It fails with the socket's error, or when that ends.
function exchange (socket, request, whole) {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0)
    const settle = (then, value) => {
      for (const [event, listener] of listeners) socket.off(event, listener)
      socket.setTimeout(0)
      then(value)
    }
    const listeners = [
      ['data', more => {
        try {
          received = Buffer.concat([received, more])
          const result = whole(received)
          if (result !== undefined) settle(resolve, result)
        } catch (e) { settle(reject, e) }
      }],
      ['error', e => settle(reject, e)],
      ['end', () => settle(reject, new Error('the connection has ended'))],
      ['timeout', () => settle(reject, new Error('no answer in time'))]
    ]
    for (const [event, listener] of listeners) socket.on(event, listener)
    socket.setTimeout(TIMEOUT)
    socket.write(request)
  })
}

function dial (path) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(path, () => {
      socket.off('error', reject)
      socket.on('error', () => {}) // told by exchange
      resolve(socket)
    })
    socket.once('error', reject)
  }).catch(e => { throw new NotRun(e.message) })
}

// locate asks the broker for the backend's own socket.
async function locate (service, version) {
  const socket = await dial(process.env.RUNNING_PROCESS_BROKER_V1_SOCKET)
  let reply
  try {
    reply = await exchange(socket, hello(service, version), received => {
      if (received.length > 0 && received[0] !== 1) throw new Error('no frame')
      const end = received.length < 5 ? Infinity : 5 + received.readUInt32LE(1)
      if (received.length < end) return undefined
      const frame = parse(received.subarray(5, end))
      if (frame[1] !== 1 || frame[2] !== 1 || frame[3] || frame[6]) throw new Error('a frame of another kind')
      return parse(frame[4])
    })
  } catch (e) { throw new NotRun(e.message) } finally { socket.destroy() }
  if (reply[1]) return parse(reply[1])[3].toString()
  const refused = parse(reply[2] ?? Buffer.alloc(0))
  const error = new NotRun('refused: ' + refused[1])
  error.retryAfter = RETRIED.includes(refused[4]) ? refused[6] ?? 0 : undefined
  throw error
}

// connect finds the service and dials it; what nobody has read it asks again, twice at most.
async function connect (service, version) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await dial(await locate(service, version))
    } catch (e) {
      if (!(e instanceof NotRun) || e.retryAfter === undefined || attempt === 3) throw e
      await new Promise(resolve => setTimeout(resolve, e.retryAfter))
    }
  }
}

async function main (service, version, ...lines) {
  const socket = await connect(service, version)
  try {
    for (const line of lines) {
      const answer = await exchange(socket, line + '\n', received => received.includes('\n') ? received : undefined)
        .catch(e => { throw new Unknown(e.message) })
      process.stdout.write(answer)
    }
  } finally {
    socket.destroy() // else the process would wait for the backend's end
  }
}

main(...process.argv.slice(2)).catch(e => {
  console.error(e instanceof Unknown ? 'unknown:' : 'not run:', e.message)
  process.exitCode = e instanceof Unknown ? 3 : 2
})
