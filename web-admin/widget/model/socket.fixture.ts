/** The browser's WebSocket as tests drive it: opened, fed and closed by hand. */
export class FakeSocket {
  onopen: (() => void) | null = null
  onmessage: ((event: { data: string }) => void) | null = null
  onclose: ((event: { code: number; reason: string }) => void) | null = null
  readonly sent: unknown[] = []
  isClosed = false

  send(text: string): void {
    this.sent.push(JSON.parse(text))
  }

  close(): void {
    this.isClosed = true
  }

  receive(frame: object): void {
    this.onmessage?.({ data: JSON.stringify(frame) })
  }

  welcome(messages: object[] = []): void {
    this.onopen?.()
    this.receive({ type: 'welcome', visitor: 'secret', messages, reset: false })
  }
}

/** Every socket that was opened, oldest first. */
export class FakeNetwork {
  readonly sockets: FakeSocket[] = []

  open = (): WebSocket => {
    this.sockets.push(new FakeSocket())
    return this.last as unknown as WebSocket
  }

  get last(): FakeSocket {
    const socket = this.sockets.at(-1)
    if (!socket) throw new Error('no socket was opened')
    return socket
  }
}
