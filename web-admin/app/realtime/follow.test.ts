import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { begun, changed, empty, failed, loaded, MAX_KEPT } from '../async/synced'
import type { Synced } from '../async/synced'
import { follow } from './follow'
import type { Frame, Position, StreamEvent } from './frames'

type Values = Readonly<Record<string, number>>
interface Entry extends Position { key: string; value: number; isSeen: boolean }

/** A tenant's stream and state as docs/realtime.md promises them. */
class Server {
  epoch = 1
  seq = 0
  log: Entry[] = []
  values: Values = {}

  write(key: string, value: number, isSeen: boolean): void {
    this.seq += 1
    this.log.push({ epoch: this.epoch, seq: this.seq, key, value, isSeen })
    if (isSeen) this.values = { ...this.values, [key]: value }
  }

  /** Entries are removed by retention. */
  cut(): void {
    this.log = []
  }

  /** A restored backup: the numbers begin anew, and what the state holds nobody told. */
  startEpoch(): void {
    this.epoch += 1
    this.seq = 0
    this.log = []
    this.values = Object.fromEntries(Object.entries(this.values).map(([key, value]) => [key, value - 1]))
  }

  /** What a client that connects is sent first. */
  greet(resume: Position | null): Frame[] {
    const head = { epoch: this.epoch, seq: this.seq }
    const ready = (at: Position): Frame => ({ type: 'ready', ...at, member_id: 'm', expires_at: 0 })
    if (!resume) return [ready(head)]
    const missed = this.log.filter(({ epoch, seq }) => epoch === resume.epoch && seq > resume.seq)
    const isWhole = resume.epoch === head.epoch && missed.length === head.seq - resume.seq
    if (!isWhole) return [ready(resume), { type: 'reset', ...head }]
    return [ready(resume), ...missed.flatMap((entry) => told(entry))]
  }
}

function told({ epoch, seq, key, value, isSeen }: Entry): Frame[] {
  const event: StreamEvent = { type: 'delivery.changed', data: { key, value } }
  return isSeen ? [{ type: 'event', epoch, seq, event }] : []
}

/** A page that follows the stream and loads what it shows. */
class Client {
  at: Position | null = null
  shown: Synced<Values> = empty()
  mustLoad = true

  hear(frame: Frame): void {
    const { at, heard } = follow(this.at, frame)
    this.at = at
    if (heard?.kind === 'reload') this.mustLoad = true
    if (heard?.kind !== 'event') return
    const { key, value } = heard.event.data as { key: string; value: number }
    this.shown = changed(this.shown, (values) => ({ ...values, [key]: value }))
  }
}

/** Server, client and what is on its way between them. */
class World {
  readonly server = new Server()
  readonly client = new Client()
  /** Frames of the open socket, and where the server goes on telling. */
  wire: Frame[] = []
  told: Position | null = null
  /** What the server said to a load that has not arrived; null while none runs. */
  answer: Values | null = null

  connect(): void {
    this.wire = this.server.greet(this.client.at)
    this.told = { epoch: this.server.epoch, seq: this.server.seq }
  }

  /** The server tells on the open socket what is new. */
  tell(): void {
    const { told: at, server } = this
    if (!at) return
    const isSame = at.epoch === server.epoch
    const fresh = server.log.filter(({ seq }) => seq > at.seq)
    if (isSame && fresh.length === server.seq - at.seq) this.wire.push(...fresh.flatMap((entry) => told(entry)))
    else this.wire.push({ type: 'reset', epoch: server.epoch, seq: server.seq })
    this.told = { epoch: server.epoch, seq: server.seq }
  }

  arrive(): void {
    const frame = this.wire.shift()
    if (frame) this.client.hear(frame)
  }

  beginLoad(): void {
    this.client.mustLoad = false
    this.client.shown = begun(this.client.shown)
    this.answer = null
  }

  serverReads(): void {
    if (this.client.shown.isLoading) this.answer ??= this.server.values
  }

  endLoad(isLost: boolean): void {
    if (!this.answer) return
    const { client } = this
    client.shown = isLost ? failed(client.shown) : loaded(client.shown, this.answer)
    client.mustLoad ||= isLost || client.shown.isOverrun
    this.answer = null
  }

  settle(): void {
    this.connect()
    for (let round = 0; round < 3; round += 1) {
      this.tell()
      while (this.wire.length > 0) this.arrive()
      if (this.client.shown.isLoading) {
        this.serverReads()
        this.endLoad(false)
      }
      if (this.client.mustLoad) this.beginLoad()
    }
  }
}

type Step = (world: World) => void

const key = fc.constantFrom('a', 'b', 'c')
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(key, fc.nat(99), fc.boolean()).map(([at, value, isSeen]): Step => (world) => {
    world.server.write(at, value, isSeen)
  }) },
  { weight: 6, arbitrary: fc.constant<Step>((world) => { world.tell() }) },
  { weight: 8, arbitrary: fc.constant<Step>((world) => { world.arrive() }) },
  { weight: 3, arbitrary: fc.constant<Step>((world) => { if (world.client.mustLoad) world.beginLoad() }) },
  { weight: 2, arbitrary: fc.constant<Step>((world) => { world.beginLoad() }) },
  { weight: 3, arbitrary: fc.constant<Step>((world) => { world.serverReads() }) },
  { weight: 3, arbitrary: fc.boolean().map((isLost): Step => (world) => { world.endLoad(isLost) }) },
  // The socket breaks: what was on its way is lost, and the next one resumes.
  { weight: 3, arbitrary: fc.constant<Step>((world) => { world.connect() }) },
  // A frame comes twice, or an old one comes late.
  { weight: 2, arbitrary: fc.nat(20).map((index): Step => (world) => {
    const entry = world.server.log[index % Math.max(1, world.server.log.length)]
    const isTold = entry && world.client.at && entry.epoch === world.client.at.epoch && entry.seq <= world.client.at.seq
    if (isTold) for (const frame of told(entry)) world.client.hear(frame)
  }) },
  { weight: 1, arbitrary: fc.constant<Step>((world) => { world.server.cut() }) },
  { weight: 1, arbitrary: fc.constant<Step>((world) => { world.server.startEpoch() }) },
)

describe('a client of the stream', () => {
  it('ends with what the server has, whatever is lost, repeated, late or begun anew', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const world = new World()
        world.connect()
        for (const take of steps) take(world)
        world.settle()
        expect(world.client.shown.data).toEqual(world.server.values)
      }),
      { numRuns: 2_000 },
    )
  })

  it('loads again when a load was overrun by changes', () => {
    let shown = begun(empty<Values>())
    for (let n = 0; n <= MAX_KEPT; n += 1) shown = changed(shown, (values) => ({ ...values, n }))
    expect(shown.since).toHaveLength(MAX_KEPT)
    expect(loaded(shown, {}).isOverrun).toBe(true)
  })
})

describe('follow', () => {
  const event: StreamEvent = { type: 'message.created', data: {} }

  it('begins where the stream says, and has everything loaded', () => {
    const ready: Frame = { type: 'ready', epoch: 2, seq: 7, member_id: 'm', expires_at: 0 }
    expect(follow(null, ready)).toEqual({ at: { epoch: 2, seq: 7 }, heard: { kind: 'reload' } })
  })

  it('tells each event once, over numbers that are left out', () => {
    const at = { epoch: 1, seq: 4 }
    const later: Frame = { type: 'event', epoch: 1, seq: 9, event }
    expect(follow(at, later)).toEqual({ at: { epoch: 1, seq: 9 }, heard: { kind: 'event', event } })
    expect(follow({ epoch: 1, seq: 9 }, later)).toEqual({ at: { epoch: 1, seq: 9 }, heard: null })
  })

  it('does not hear notes and answers', () => {
    const at = { epoch: 1, seq: 4 }
    expect(follow(at, { type: 'renewed', expires_at: 0 })).toEqual({ at, heard: null })
  })
})
