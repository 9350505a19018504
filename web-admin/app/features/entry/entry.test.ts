import { describe, expect, it } from 'vitest'
import { tokenIn } from './api'
import { isPassword } from './password'

describe('ways in', () => {
  it('read their token behind the #', () => {
    expect(tokenIn('#t0k-en')).toBe('t0k-en')
    expect(tokenIn('')).toBe('')
  })

  it('count a password as people do', () => {
    expect(isPassword('九个字的密码啊啊啊')).toBe(false)
    expect(isPassword('🌷'.repeat(9))).toBe(false)
    expect(isPassword('ten chars!')).toBe(true)
  })
})
