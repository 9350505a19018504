import { describe, expect, it } from 'vitest'
import { deviceOf, grouped, isComplete, passwordProblem, proofOf } from './account'

describe('a new password', () => {
  const typed = { old: 'old-password', fresh: 'new-password', again: 'new-password' }

  it('is complete when it is long enough, another one, and typed twice', () => {
    expect(isComplete(typed)).toBe(true)
    expect(isComplete({ ...typed, again: '' })).toBe(false)
    expect(isComplete({ ...typed, old: '' })).toBe(false)
  })

  it('is told what is wrong with it, once there is something', () => {
    expect(passwordProblem({ ...typed, fresh: '' })).toBeNull()
    expect(passwordProblem({ ...typed, fresh: 'short' })).toBe('short')
    expect(passwordProblem({ ...typed, fresh: 'old-password' })).toBe('same')
    expect(passwordProblem({ ...typed, again: 'new' })).toBe('differs')
  })
})

describe('a proof', () => {
  it('is a code or a recovery code, however it is spaced', () => {
    expect(proofOf(' 123 456 ')).toEqual({ code: '123456' })
    expect(proofOf('abcd-efgh-ijkl-mnop')).toEqual({ recovery_code: 'abcd-efgh-ijkl-mnop' })
    expect(proofOf('12345')).toBeNull()
  })
})

it('groups a key by four', () => {
  expect(grouped('ABCDEFGHIJ')).toBe('ABCD EFGH IJ')
})

it('calls browsers as people do', () => {
  const chrome = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Safari/537.36'
  expect(deviceOf(chrome)).toBe('Chrome · Linux')
  expect(deviceOf(chrome.replace('Safari', 'Edg/156.0 Safari'))).toBe('Edge · Linux')
  expect(deviceOf('Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Safari/604.1')).toBe('Safari · iOS')
  expect(deviceOf('curl/8.5')).toBe('curl/8.5')
  expect(deviceOf(null)).toBe('')
})
