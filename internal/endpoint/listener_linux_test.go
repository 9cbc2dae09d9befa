package endpoint

const listenerPIDKnown = true
