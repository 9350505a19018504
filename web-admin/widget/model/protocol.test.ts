import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseFrame } from './protocol'

const wireMessage = {
  type: 'message',
  id: 'm1',
  sender: { kind: 'human', name: '小王' },
  segments: [
    { type: 'text', text: '您好' },
    { type: 'image', ref: { via: 'media', id: 'p1' } },
    { type: 'image', ref: { via: 'wecom', id: 'x' } },
  ],
  at: '2026-01-01T00:00:00Z',
  client_id: null,
}
const message = {
  id: 'm1',
  sender: { kind: 'human', name: '小王' },
  segments: [
    { type: 'text', text: '您好', picture: null },
    { type: 'image', text: null, picture: 'p1' },
    { type: 'image', text: null, picture: null },
  ],
  at: '2026-01-01T00:00:00Z',
  clientId: null,
}

describe('parseFrame', () => {
  it.each([
    [wireMessage, { type: 'message', message }],
    [
      { type: 'welcome', visitor: 'v', messages: [wireMessage, { id: 7 }], reset: false, title: '店', greeting: '', accent: '#aa3300' },
      {
        type: 'welcome',
        visitor: 'v',
        messages: [message],
        reset: false,
        heading: { title: '店', greeting: null, accent: '#aa3300' },
      },
    ],
    [
      { type: 'ack', id: 'c1', message_id: 'm1' },
      { type: 'ack', id: 'c1', messageId: 'm1' },
    ],
    [
      { type: 'upload', id: 'c1', media_id: 'p1', url: '/media/x' },
      { type: 'upload', id: 'c1', mediaId: 'p1', url: '/media/x' },
    ],
    [
      { type: 'state', owner: 'waiting' },
      { type: 'state', owner: 'waiting', name: null },
    ],
    [
      { type: 'question', id: 'q1', until: '2026-01-01T00:00:00Z' },
      { type: 'question', question: { id: 'q1', until: '2026-01-01T00:00:00Z' } },
    ],
    [
      { type: 'question', id: null, until: null },
      { type: 'question', question: null },
    ],
    [
      { type: 'service', paused: true },
      { type: 'service', paused: true },
    ],
    [
      { type: 'error', code: 'too_long', detail: 'Too long.', id: 'c1' },
      { type: 'error', code: 'too_long', detail: 'Too long.', id: 'c1', retryAfterS: null },
    ],
  ])('reads %j', (wire, frame) => {
    expect(parseFrame(JSON.stringify(wire))).toEqual(frame)
  })

  it.each([
    '{',
    '[]',
    'null',
    '{"type":"news"}',
    '{"type":"ack","id":"c1"}',
    '{"type":"state","owner":"nobody"}',
    '{"type":"service","paused":"yes"}',
    '{"type":"message","id":"m1","sender":{"kind":"robot"},"segments":[]}',
  ])('ignores %s', (text) => {
    expect(parseFrame(text)).toBeNull()
  })

  it('never throws, whatever arrives', () => {
    const frames = fc.record({ type: fc.constantFrom('welcome', 'ack', 'message', 'state', 'error') })
    fc.assert(
      fc.property(frames, fc.object(), (frame, rest) => {
        const parsed = parseFrame(JSON.stringify({ ...rest, ...frame }))
        expect(parsed === null || parsed.type === frame.type).toBe(true)
      }),
    )
  })
})
