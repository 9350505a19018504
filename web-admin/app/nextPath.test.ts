import { describe, expect, it } from 'vitest'
import { localPath } from './nextPath'

describe('localPath', () => {
  it('keeps a path of the dashboard', () => {
    expect(localPath('/conversations/c1?x=1')).toBe('/conversations/c1?x=1')
  })

  it.each(['//evil.example', '/\\evil.example', 'https://evil.example', '', undefined, ['/a']])(
    'leads %j to the start',
    (next) => {
      expect(localPath(next)).toBe('/')
    },
  )
})
