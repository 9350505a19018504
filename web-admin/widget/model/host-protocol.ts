/** What the loader on the host page and the chat in its frame tell each other by postMessage. */

/**
 * The host page's origin comes to the frame in the address: `/webchat/<token>#host=<origin>`, and
 * with it the language and the theme that the site asks for, where it does.
 */
export const HOST_PARAMETER = 'host'
export const LANGUAGE_PARAMETER = 'language'
export const THEME_PARAMETER = 'theme'

export type ToHost =
  | { botyard: 'unread'; count: number }
  | { botyard: 'close' }

export interface ToChat {
  botyard: 'shown'
  shown: boolean
}
