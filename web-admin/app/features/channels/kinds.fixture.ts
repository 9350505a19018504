/** A kind with one setting of each sort, for tests. */

import type { Kind } from './kinds'

const secret = { format: 'password', type: 'string', writeOnly: true }

export const postbox: Kind = {
  name: 'postbox',
  title: 'Postbox',
  title_zh: '信箱',
  callback: true,
  transports: ['callback'],
  conversations: ['direct'],
  receives: ['text'],
  sends: ['text'],
  secrets: ['previous_token', 'sign', 'token'],
  generated: ['sign'],
  settings: {
    properties: {
      base_url: { type: 'string', maxLength: 500, description: 'Where it is.' },
      greeting: { type: 'string', maxLength: 500, default: 'Hello' },
      box: { type: 'integer', title: 'Box', title_zh: '信箱号', description: 'Its number.', description_zh: '信箱的号码。' },
      token: { anyOf: [secret, { type: 'null' }], default: null },
      previous_token: { anyOf: [secret, { type: 'null' }], previous_of: 'token' },
      sign: secret,
      transport: { type: 'string', enum: ['callback', 'pull'], default: 'callback' },
      colour: { $ref: '#/$defs/Colour' },
      loud: { type: 'boolean', default: false },
      pages: { type: 'array', items: { type: 'string' } },
      accent: { anyOf: [{ type: 'string' }, { type: 'null' }], default: null },
    },
    required: ['box'],
    $defs: { Colour: { type: 'string', enum: ['red', 'blue'] } },
  },
}
