import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Connection } from './connection'
import type { Link } from './connection'
import { FakeNetwork } from './socket.fixture'

describe('Connection', () => {
  let network: FakeNetwork
  let links: Link[]
  let connection: Connection

  beforeEach(() => {
    vi.useFakeTimers()
    network = new FakeNetwork()
    links = []
    connection = new Connection({
      openSocket: network.open,
      hello: () => ({ type: 'resume', visitor: null, last_id: 'm1' }),
      onFrame: () => undefined,
      onLink: (link) => links.push(link),
      random: () => 1,
      now: Date.now,
    })
    connection.wake()
  })

  afterEach(() => {
    vi.useRealTimers()
  })

  function close(code: number, reason = ''): void {
    network.last.onclose?.({ code, reason })
  }

  it('says where it stopped and is live after the welcome only', () => {
    network.last.onopen?.()
    expect(network.last.sent).toEqual([{ type: 'resume', visitor: null, last_id: 'm1' }])
    expect(links).toEqual(['connecting'])
    network.last.welcome()
    expect(links).toEqual(['connecting', 'live'])
  })

  it('sends nothing before the welcome', () => {
    connection.send({ type: 'message', id: 'c1', text: 'early' })
    network.last.welcome()
    expect(network.last.sent).toHaveLength(1)
  })

  it('comes back after every close, later each time the server fails at once', () => {
    for (const delay of [1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000]) {
      const before = network.sockets.length
      network.last.welcome()
      close(1013)
      vi.advanceTimersByTime(delay - 1)
      expect(network.sockets).toHaveLength(before)
      vi.advanceTimersByTime(1)
      expect(network.sockets).toHaveLength(before + 1)
    }
  })

  it('waits little again after a link that lived', () => {
    close(1006)
    vi.advanceTimersByTime(1_000)
    network.last.welcome()
    vi.advanceTimersByTime(10_000)
    close(1012)
    vi.advanceTimersByTime(1_000)
    expect(network.sockets).toHaveLength(3)
  })

  it('comes back when a restarting server asks it to, and not all at once', () => {
    network.last.welcome()
    vi.advanceTimersByTime(10_000)
    close(1012, 'restarting, again in 7.5 s')
    vi.advanceTimersByTime(7_999)
    expect(network.sockets).toHaveLength(1)
    vi.advanceTimersByTime(1)
    expect(network.sockets).toHaveLength(2)
  })

  it('takes a hint only from a link that lived, so a server that always restarts is not hammered', () => {
    for (const delay of [1_000, 2_000, 4_000]) {
      const before = network.sockets.length
      network.last.welcome()
      close(1012, 'restarting, again in 0.0 s')
      vi.advanceTimersByTime(delay - 1)
      expect(network.sockets).toHaveLength(before)
      vi.advanceTimersByTime(1)
      expect(network.sockets).toHaveLength(before + 1)
    }
  })

  it.each([
    [4403, 'closed'],
    [4404, 'unknown'],
    [4410, 'closed'],
  ])('never comes back after %i', (code, link) => {
    close(code)
    vi.advanceTimersByTime(60_000)
    connection.wake()
    connection.reconnect()
    expect(links.at(-1)).toBe(link)
    expect(network.sockets).toHaveLength(1)
  })

  it('gives up a server that does not welcome it', () => {
    network.last.onopen?.()
    vi.advanceTimersByTime(10_000)
    expect(network.last.isClosed).toBe(true)
    expect(links.at(-1)).toBe('waiting')
  })

  it('tries at once when woken, but leaves a running attempt alone', () => {
    connection.wake()
    expect(network.sockets).toHaveLength(1)
    close(1006)
    connection.wake()
    expect(network.sockets).toHaveLength(2)
  })

  it('hears nothing more from a socket that it gave up', () => {
    const [old] = network.sockets
    network.last.welcome()
    connection.reconnect()
    expect(old?.isClosed).toBe(true)
    old?.onclose?.({ code: 4404, reason: '' })
    network.last.welcome()
    expect(links).toEqual(['connecting', 'live', 'connecting', 'live'])
  })
})
