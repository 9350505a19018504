/** Starts the dashboard. */

import { createApp } from 'vue'
import App from './App.vue'
import { i18n, preferredLanguage, setLanguage } from './i18n'
import { router } from './router'
import { restoreTheme } from './theme'
import './styles/tokens.css'
import './styles/base.css'

restoreTheme()
await setLanguage(preferredLanguage())
createApp(App).use(i18n).use(router).mount('#app')
