// <ai-credits-prompt>: the notice that an AI action was refused with 402 (M11). Any page can embed it:
//
//   <script type="module" src="https://…/settings/ai-credits/prompt.js"></script>
//   document.querySelector('ai-credits-prompt').problem = await response.json();   // the 402's body
//
// It shows the problem's `prompt` and links to its `top_up_url`. The attributes `text` and `top-up-url` set the same. A
// click on the link fires `ai-credits-top-up`. A page that calls `preventDefault` on this event can open the settings
// itself, for example with a token.
const style = new CSSStyleSheet();
style.replaceSync(`
  :host { display: block; font: inherit; color: light-dark(#4a2c00, #ffe3b0); }
  :host([hidden]) { display: none; }
  div { display: flex; flex-wrap: wrap; gap: .75rem 1rem; align-items: center; padding: 1rem; border-radius: .75rem;
    background: light-dark(#fff3dc, #3a2a0c); border: 1px solid light-dark(#e2b25a, #7d5c1d); }
  p { margin: 0; flex: 1 1 16rem; }
  a { color: light-dark(#fff, #1d1300); background: light-dark(#7a4a00, #ffc766); padding: .5rem 1rem; border-radius: .5rem;
    font-weight: 600; text-decoration: none; }
  a:focus-visible { outline: 3px solid currentColor; outline-offset: 2px; }
`);

class AiCreditsPrompt extends HTMLElement {
  static observedAttributes = ['text', 'top-up-url'];
  #text = document.createElement('p');
  #link = document.createElement('a');

  constructor() {
    super();
    const box = document.createElement('div');
    box.setAttribute('role', 'alert');
    this.#link.textContent = 'Add credits';
    this.#link.addEventListener('click', event => {
      const asked = new CustomEvent('ai-credits-top-up', { bubbles: true, composed: true, cancelable: true });
      if (!this.dispatchEvent(asked)) event.preventDefault();
    });
    box.append(this.#text, this.#link);
    this.attachShadow({ mode: 'open' }).append(box);
    this.shadowRoot.adoptedStyleSheets = [style];
  }

  /** Takes the body of a 402. */
  set problem({ prompt, top_up_url }) {
    this.setAttribute('text', prompt);
    this.setAttribute('top-up-url', top_up_url);
  }

  connectedCallback() {
    this.#text.textContent = this.getAttribute('text') ?? 'Your workspace is out of AI credits. Add credits to go on.';
    const url = this.getAttribute('top-up-url') ?? '';
    // Hides the link if the address is of a scheme that a browser would run, such as `javascript:`.
    this.#link.hidden = !/^(https?:\/\/|#|\/)/.test(url);
    this.#link.href = this.#link.hidden ? '#' : url;
  }

  attributeChangedCallback() {
    this.connectedCallback();
  }
}

if (!customElements.get('ai-credits-prompt')) customElements.define('ai-credits-prompt', AiCreditsPrompt);
