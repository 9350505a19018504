import { describe, expect, it } from 'vitest'
import { embedTag } from './embed'

describe('embedTag', () => {
  it('names the loader and the token of the address', () => {
    expect(embedTag('https://bot.example:8443/webchat/t0k')).toBe(
      '<script src="https://bot.example:8443/webchat-assets/loader.js" data-token="t0k" async></script>',
    )
  })
})
