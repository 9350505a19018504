import { describe, expect, it } from 'vitest'
import { reasonIn } from './reason'

describe('reasonIn', () => {
  it('knows an agent’s own sentences with what stands in them', () => {
    expect(reasonIn('the platform has been silent for 60 s')).toEqual({ code: 'silent', values: { seconds: '60' } })
    expect(reasonIn('nothing can be sent: 48001 (api unauthorized)')).toEqual({
      code: 'cannotSend',
      values: { detail: '48001 (api unauthorized)' },
    })
  })

  it('leaves a platform’s words alone', () => {
    expect(reasonIn('Feishu ended the connection (1006)')).toBeNull()
    expect(reasonIn('')).toBeNull()
  })
})
