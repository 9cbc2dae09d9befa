// Required before a program of examples/node: no wait of its sockets is longer than PATIENCE, in ms.
'use strict'
const { Socket } = require('node:net')
const setTimeout = Socket.prototype.setTimeout
Socket.prototype.setTimeout = function (ms, ...rest) {
  return setTimeout.call(this, Math.min(ms, Number(process.env.PATIENCE)), ...rest)
}
