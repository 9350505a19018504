import { describe, expect, it } from 'vitest'
import { ApiError } from '../../api/problem'
import { useReply } from './reply'

describe('useReply', () => {
  function start(...outcomes: ('accepted' | 'lost')[]) {
    const sent: { text: string; key: string }[] = []
    const reply = useReply((text, key) => {
      sent.push({ text, key })
      const isLost = outcomes.shift() === 'lost'
      return isLost ? Promise.reject(new ApiError(0, 'unreachable', '')) : Promise.resolve()
    })
    return { reply, sent }
  }

  it('repeats the same text under the same key until it is accepted', async () => {
    const { reply, sent } = start('lost', 'accepted', 'accepted')
    reply.draft.value = '好的'
    await reply.run()
    expect(reply.draft.value).toBe('好的')
    expect(reply.error.value?.code).toBe('unreachable')
    await reply.run()
    expect(reply.draft.value).toBe('')
    reply.draft.value = '好的'
    await reply.run()
    expect(sent[1]).toEqual(sent[0])
    expect(sent[2]?.key).not.toBe(sent[0]?.key)
  })

  it('gives another text another key', async () => {
    const { reply, sent } = start('lost', 'accepted')
    reply.draft.value = '好的'
    await reply.run()
    reply.draft.value = '马上'
    await reply.run()
    expect(sent[1]?.key).not.toBe(sent[0]?.key)
  })

  it('keeps what was typed while it was sending', async () => {
    const { reply } = start('accepted')
    reply.draft.value = '好的'
    const sending = reply.run()
    reply.draft.value = '好的，马上'
    await sending
    expect(reply.draft.value).toBe('好的，马上')
  })

  it('sends once however often it is asked, and nothing when empty', async () => {
    const { reply, sent } = start('accepted')
    await reply.run()
    reply.draft.value = '好的'
    await Promise.all([reply.run(), reply.run()])
    expect(sent).toHaveLength(1)
  })
})
